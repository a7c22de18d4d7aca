"""The scripts that make bundles: every command of them parses, on the data that they are for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from conversion.__main__ import parser as conversion_parser
from training.__main__ import parser as training_parser
from training.corpora import kind_of, licence_of
from training.corpora.licences import together

ROOT = Path(__file__).parent.parent
PARSERS = {"training": training_parser, "conversion": conversion_parser}
# Stands for the environment's Python: writes down what it is asked for.
STUB = """#!/bin/sh
printf '%s\\t' "$@" >> asked.txt
echo >> asked.txt
"""


def commands(folder: Path, script: str, *more: str, **variables: str) -> list[list[str]]:
    """What `script` asks Python for, each without `-m`; `folder` is where it runs."""
    corpora = folder / "corpora"
    for rooms in ("small_room", "reverbjs"):
        (corpora / "rooms" / rooms).mkdir(parents=True, exist_ok=True)
        (corpora / "rooms" / rooms / "Hall.flac").touch()
    (corpora / "rooms" / "reverbjs" / "TerrysTypingRoom.flac").touch()
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(STUB)
    python.chmod(0o755)
    (folder / "asked.txt").unlink(missing_ok=True)
    subprocess.run(
        ["sh", ROOT / "scripts" / script, "corpora", "out", *more],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        timeout=60,
        check=True,
    )
    lines = (folder / "asked.txt").read_text().splitlines()
    asked = [line.removesuffix("\t").split("\t") for line in lines]
    made = [Path(words[0]) for words in asked if words[0] != "-m"]
    assert made == [ROOT / "scripts" / "make_tones.py"]
    return [words[1:] for words in asked if words[0] == "-m"]


def spoken(asked: list[list[str]]) -> set[str]:
    """Names of the corpora that any command takes."""
    return {word.partition("=")[0] for words in asked for word in words if "=corpora/" in word}


@pytest.mark.parametrize("script", ["default-bundle", "open-bundle"])
def test_every_command_of_a_recipe_parses(tmp_path: Path, script: str) -> None:
    asked = commands(tmp_path, script)
    assert len(asked) >= 7
    for program, *words in asked:
        PARSERS[program]().parse_args(words)
    name = script.removesuffix("-bundle")
    tiers = {"default": ["medium", "large"], "open": ["large"]}[name]
    joined = [words[words.index("--tier") + 1] for words in asked if words[1] == "pretrained"]
    assert list(dict.fromkeys(joined)) == tiers
    own = {"default": "medium", "open": "small"}[name]
    built = [words for words in asked if words[:2] == ["conversion", "build"]]
    assert built == asked[-len(built) :]
    for words, tier in zip(built, ["small", *tiers], strict=True):
        assert words[words.index("--tier") + 1] == tier
        assert words[words.index("--name") + 1] == (name if tier == own else f"{name}-{tier}")
        assert words[words.index("--out") + 1] == ("out/bundle" if tier == own else f"out/{tier}")


def test_rooms_to_measure_in_do_not_train(tmp_path: Path) -> None:
    commands(tmp_path, "default-bundle")
    assert [path.name for path in (tmp_path / "out" / "rooms").iterdir()] == ["Hall.flac"]


def test_meld_trains_nothing_that_ships(tmp_path: Path) -> None:
    for script in ("default-bundle", "open-bundle"):
        assert not any("meld" in word for words in commands(tmp_path, script) for word in words)


def test_the_open_recipe_takes_what_may_be_used_commercially(tmp_path: Path) -> None:
    asked = commands(tmp_path, "open-bundle")
    terms = together({name: licence_of(kind_of(name)) for name in spoken(asked)})
    assert terms.startswith("**Attribution**. The weights may be used for anything, commerce as")
    words = [word for command in asked for word in command]
    assert "--rooms" not in words
    assert not any("noise/phones" in word for word in words)  # CC BY-NC-SA
    assert "--by" not in words


def test_the_open_recipe_takes_corpora_of_the_user(tmp_path: Path) -> None:
    asked = commands(tmp_path, "open-bundle", "cremad=mine", ROOMS="halls")
    for program, *words in asked:
        PARSERS[program]().parse_args(words)
    assert sum("cremad=mine" in words for words in asked) == 11
    assert any("--by" in words for words in asked)
    assert all(
        words[words.index("--rooms") + 1] == "halls" for words in asked if "--babble" in words
    )
