"""Valence and arousal: by a table of words or by ratings, from a run to a device's events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conversion.__main__ import main as convert
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import MANIFEST, MODEL_CARD
from edge_runtime.errors import BundleError
from edge_runtime.events import to_dict
from edge_runtime.stream import classify
from training.__main__ import main
from training.corpora import Utterance
from training.corpora.class_map import open_classes, shipped
from training.corpora.manifest import write
from training.errors import TrainingError
from training.evaluate.dimensions import agreement, fit_ratings, from_table, signs
from training.run import load

# What the raters of the tones below said: valence, arousal.
RATED = {"angry": (-0.6, 0.8), "sad": (-0.7, -0.5)}


def test_the_circumplex_is_that_of_russell_and_has_every_shipped_class() -> None:
    labels = sorted({label for name in shipped() for label in open_classes(name).classes()})
    table = from_table(labels)
    assert table.valence["happy"] == pytest.approx(np.cos(np.radians(7.8)), abs=1e-4)
    assert table.arousal["sad"] == pytest.approx(np.sin(np.radians(207.5)), abs=1e-4)
    assert table.valence["angry"] < 0 < table.arousal["angry"]
    assert table.valence["calm"] > 0 > table.arousal["calm"]
    assert (table.valence["neutral"], table.arousal["neutral"]) == (0, 0)
    assert table.source.startswith("from classes")
    assert table.metrics == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file"),
        ("[points\n", "expected .degrees., class = 0 to 360"),
        ("[points]\ncalm = 3\n", "expected .degrees."),
        ("[points]\ncalm = [2, 0]\n", "calm is not from -1 to 1"),
        ("[degrees]\nangry = 99\n", r"does not say where calm is; .* calm = \[valence, arousal\]"),
    ],
)
def test_a_table_that_says_nothing_is_refused(text: str | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / "table.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TrainingError, match=why):
        from_table(["calm"], str(path))


def test_agreement_is_that_of_lin() -> None:
    rated = np.array([-1.0, 0.0, 1.0, 0.5])
    assert agreement(rated, rated).ccc == pytest.approx(1)
    assert agreement(rated, rated).rmse == 0
    assert agreement(rated, -rated).ccc < 0
    shifted = agreement(rated, rated + 1)  # correlated, and not in concordance
    assert shifted.rmse == pytest.approx(1)
    assert shifted.ccc == pytest.approx(2 * rated.var() / (2 * rated.var() + 1))
    assert agreement(np.zeros(3), np.zeros(3)).ccc == 0


def test_ratings_are_fitted_within_the_scale_and_judged_on_other_speakers() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    scores = np.where(np.arange(2) == truth[:, None], 0.9, 0.1).astype(np.float32)
    people = [
        Utterance(None, "x", f"s{i % 8}", "made", valence=2 * c - 1, arousal=0.3)
        for i, c in enumerate(truth)
    ]
    found = fit_ratings(scores, people, ["low", "high"])
    assert found.valence == {"low": -1.0, "high": 1.0}  # it would leave the scale
    assert found.arousal["low"] == pytest.approx(0.3, abs=0.02)
    figures = found.metrics["corpora"]["made"]
    assert figures["valence"]["n"] == 200
    assert figures["valence"]["ccc"] > 0.95
    assert found.metrics["protocol"] == "5 folds by speaker"
    noise = [replace(u, valence=float(rng.uniform(-1, 1))) for u in people]
    assert (
        abs(
            fit_ratings(scores, noise, ["low", "high"]).metrics["corpora"]["made"]["valence"]["ccc"]
        )
        < 0.2
    )
    # Parts of a recording, of nobody knows whom, are on one side; of one there is no other side.
    parts = [
        replace(u, path=Path(f"{i // 50}.wav"), start=float(i), speaker=None)
        for i, u in enumerate(people)
    ]
    assert fit_ratings(scores, parts, ["low", "high"]).metrics["protocol"] == "4 folds by file"
    with pytest.raises(TrainingError, match="all of one recording"):
        fit_ratings(scores[:50], parts[:50], ["low", "high"])
    with pytest.raises(TrainingError, match="19 clips with valence and arousal; at least 20"):
        fit_ratings(scores[:19], people[:19], ["low", "high"])


def test_signs_are_judged_by_classes_that_are_off_the_middle() -> None:
    labels = ["angry", "happy", "neutral", "sad"]
    clips = [Utterance(None, label, "s", "made") for label in labels]
    table = from_table(labels)
    right = signs(np.eye(4, dtype=np.float32), clips, labels, table)
    assert right == {"valence": (1.0, 2), "arousal": (1.0, 2)}
    wrong = signs(np.eye(4, dtype=np.float32)[::-1].copy(), clips, labels, table)
    assert wrong["arousal"] == (0.0, 2)


@pytest.fixture
def run(tones: Callable[..., list[Utterance]], tmp_path: Path) -> tuple[Path, list[Utterance]]:
    """A run of the classes angry and sad, and its 32 clips by four speakers."""
    clips = tones(speakers=4, clips=8)
    write(tmp_path / "clips.csv", clips)
    out = tmp_path / "run"
    arguments = [f"manifest={tmp_path / 'clips.csv'}", "--classes", "seven", "--out", str(out)]
    assert main(["adapt", *arguments, "--jobs", "1"]) == 0
    return out, clips


def test_a_run_learns_dimensions_and_a_device_says_them(
    run: tuple[Path, list[Utterance]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, clips = run
    assert load(folder).training["classes"]["map"] == "seven"
    assert load(folder).dimensions is None
    assert main(["dimensions", str(folder)]) == 0
    words = load(folder).dimensions
    assert words is not None
    assert words.valence == from_table(["angry", "sad"]).valence
    assert "from classes" in capsys.readouterr().out

    plain = f"manifest={tmp_path / 'clips.csv'}"
    assert main(["dimensions", str(folder), plain, "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "none of these clips is rated" in printed
    assert "arousal: sign as that of the clip's class 100.0 % of 32 clips" in printed

    told = [replace(u, valence=RATED[u.label][0], arousal=RATED[u.label][1]) for u in clips]
    write(tmp_path / "rated.csv", told)
    rated = f"manifest={tmp_path / 'rated.csv'}"
    assert main(["dimensions", str(folder), rated, "--jobs", "1"]) == 0
    found = load(folder).dimensions
    assert found is not None
    assert found.source == "fitted to ratings of clips: manifest 32"
    assert found.metrics["corpora"]["manifest"]["arousal"]["ccc"] > 0.9
    assert "CCC" in capsys.readouterr().out

    out = tmp_path / "bundle"
    assert convert(["build", str(folder), "--out", str(out), "--no-whole"]) == 0
    bundle = load_bundle(out)
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    event = classify(stream, read_file(clips[0].audio))
    assert event.arousal == sum(event.scores[k] * v for k, v in found.arousal.items())
    assert event.arousal == pytest.approx(RATED["angry"][1], abs=0.2)
    assert to_dict(event)["valence"] == round(event.valence or 0.0, 3)
    card = (out / MODEL_CARD).read_text(encoding="utf-8")
    assert "## Valence and arousal" in card
    assert "CCC" in card
    refused(out)


def refused(bundle: Path) -> None:
    """What cannot be meant in a manifest is refused when it is loaded."""
    good = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    for table, why in (
        ({"angry": 0.1}, "the arousal of dimensions is not of each label"),
        ({"angry": 0.1, "sad": 1.5}, "the arousal of dimensions is not from -1 to 1"),
    ):
        bad = good | {"dimensions": good["dimensions"] | {"arousal": table}}
        (bundle / MANIFEST).write_text(json.dumps(bad), encoding="utf-8")
        with pytest.raises(BundleError, match=why):
            load_bundle(bundle)


def test_events_of_a_bundle_without_dimensions_are_as_they_were() -> None:
    bundle = load_bundle("default")
    assert bundle.manifest.dimensions is None
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0)
    samples = (3000 * np.sin(np.arange(16_000) / 5)).astype(np.int16)
    assert not {"valence", "arousal"} & to_dict(classify(stream, samples)).keys()
