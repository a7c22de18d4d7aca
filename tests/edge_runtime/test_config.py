"""Settings from a file, the environment and the command line: which counts, and what is refused."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, CompletedProcess, run

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from edge_runtime.commands.settings import RunSettings, lasting
from edge_runtime.config import (
    described,
    effective,
    read_environment,
    read_file,
    settings_file,
    template,
    variable,
)
from edge_runtime.errors import SettingError
from edge_runtime.settings import (
    Pairs,
    Secret,
    Settings,
    add_arguments,
    from_arguments,
    options,
    section,
    setting,
)

Command = Callable[..., "CompletedProcess[str]"]


@dataclass(frozen=True)
class Sent(Settings):
    """A section."""

    broker: str | None = setting(None, "Where to.", main=True)
    password: Secret | None = setting(None, "Known to few.")
    seconds: float = setting(1.0, "How long.", above=0)


@dataclass(frozen=True)
class Told(Settings):
    """What a device could be told."""

    threads: int = setting(1, "How many.", minimum=1, maximum=8)
    loud: bool = setting(False, "Whether it can be heard.")
    tempo: str = setting("slow", "How fast.", choices=("slow", "fast"))
    folder: Path | None = setting(None, "Where.")
    on: Pairs = setting((), "What to do, and when.", metavar=("WHEN", "WHAT"))
    sent: Sent = section(Sent())


KNOWN = {option.key: option for option in options(Told)}


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Told, given_alone=True)
    return parser.parse_args(arguments)


def written(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_section_bears_its_name_and_a_secret_has_no_option() -> None:
    flags = {option.flag for option in options(Told)}
    assert {"--sent", "--sent-seconds", "--on", "--loud"} <= flags
    assert "--sent-password" not in argparse.ArgumentParser().format_help()
    with pytest.raises(SystemExit):
        parse("--sent-password", "x")
    told = from_arguments(Told, parse("--sent", "there", "--on", "sad", "cry", "--on", "x", "y"))
    assert told == Told(on=(("sad", "cry"), ("x", "y")), sent=Sent("there"))


def test_the_command_line_counts_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(
        tmp_path,
        'threads = 2\nloud = true\ntempo = "fast"\n[sent]\nbroker = "file"\nseconds = 3\n',
    )
    monkeypatch.setenv("EDGE_EMOTION_THREADS", "3")
    monkeypatch.setenv("EDGE_EMOTION_SENT_BROKER", "environment")
    found = effective(Told, parse("--threads", "4"), file)
    assert found.settings == Told(4, True, "fast", sent=Sent("environment", seconds=3.0))
    assert [found.origin(key).name for key in ("threads", "sent.broker", "loud", "folder")] == [
        "--threads",
        "EDGE_EMOTION_SENT_BROKER",
        str(file),
        "default",
    ]
    # Where a recording is read, parts of a program that listens do not count.
    assert effective(Told, parse(), file, alone=True).settings == Told(3, True, "fast")
    alone = effective(Told, parse("--sent", "asked"), file, alone=True)
    assert alone.settings.sent == Sent("asked")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("thread = 2", "there is no setting 'thread'; 'threads'?"),
        ("broker = 'x'", "there is no setting 'broker'; 'sent.broker'?"),
        ("[send]\nbroker = 'x'", "there is no setting 'send'"),
        ("[sent]\nbrokr = 'x'", "there is no setting 'sent.brokr'; 'sent.broker'?"),
        ("threads = 9", "threads must be a whole number from 1 to 8, not 9"),
        ("threads = 'two'", "threads must be a whole number from 1 to 8, not 'two'"),
        ("threads = true", "threads must be a whole number from 1 to 8, not True"),
        ("loud = 1", "loud must be true or false, not 1"),
        ("tempo = 'quick'", "tempo must be one of slow, fast, not 'quick'"),
        ("folder = 3", "folder must be text, not 3"),
        ("on = 'sad'", "on must be pairs of words, not 'sad'"),
        ("on = [['sad']]", "on must be pairs of words"),
        ("sent = 3", "there is no setting 'sent'"),
        ("[sent]\nseconds = inf", "sent.seconds must be a number above 0"),
        ("threads = ", "no valid TOML"),
        ("a = " + "[" * 5000, "no valid TOML"),
    ],
)
def test_what_a_file_says_wrongly_is_said_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SettingError) as refused:
        read_file(file, KNOWN)
    assert str(file) in str(refused.value)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_environment_is_read_as_a_file_would_be() -> None:
    place = read_environment(
        {
            "EDGE_EMOTION_LOUD": "yes",
            "EDGE_EMOTION_SENT_PASSWORD": "123",
            "EDGE_EMOTION_ON": '[["sad", "cry"]]',
            "EDGE_EMOTION_DEBUG": "1",
            "HOME": "x",
        },
        KNOWN,
    )
    assert {key: value for key, (value, _) in place.items()} == {
        "loud": True,
        "sent.password": "123",
        "on": (("sad", "cry"),),
    }
    with pytest.raises(SettingError, match=r"EDGE_EMOTION_THREAD, which .* EDGE_EMOTION_THREADS\?"):
        read_environment({"EDGE_EMOTION_THREAD": "1"}, KNOWN)
    with pytest.raises(SettingError, match="THREADS: threads must be a whole number, not 'two'"):
        read_environment({"EDGE_EMOTION_THREADS": "two"}, KNOWN)


def test_an_empty_text_is_none_where_none_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, '[sent]\nbroker = ""\npassword = ""\n')
    assert effective(Told, parse(), file).settings.sent == Sent(None, Secret(""))
    file.write_text('[sent]\nbroker = "file"\n')
    monkeypatch.setenv("EDGE_EMOTION_SENT_BROKER", "")
    found = effective(Told, parse(), file)
    assert found.settings.sent.broker is None
    assert "# broker = is not set" in "\n".join(described(found))
    assert effective(Told, parse("--sent", ""), file).settings.sent.broker is None


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    file = written(tmp_path, '[sent]\npassword = "hidden"')
    found = effective(Told, parse(), file)
    assert found.settings.sent.password == "hidden"
    assert "hidden" not in "\n".join([*described(found), repr(found)])


def test_a_template_is_a_file_with_every_setting_that_says_nothing(tmp_path: Path) -> None:
    text = template(RunSettings)
    known = {option.key: option for option in options(RunSettings)}
    assert read_file(written(tmp_path, text), known) == {}
    uncommented = "\n".join(
        line.removeprefix("# ") for line in text.splitlines() if " = " in line or line[:1] == "["
    )
    place = read_file(written(tmp_path, uncommented), known)
    with_default = {key for key, option in known.items() if option.default not in (None, ())}
    assert with_default <= set(place)
    assert {key: place[key][0] for key in with_default} == {
        key: known[key].default for key in with_default
    }


def test_variables_of_all_settings_are_different() -> None:
    names = [variable(option) for option in options(RunSettings)]
    assert len(set(names)) == len(names)


@bounded(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_whatever_a_file_holds_it_is_read_or_refused(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        with suppress(SettingError):
            assert set(read_file(Path(file.name), KNOWN)) <= set(KNOWN)


def test_a_file_that_was_named_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings_file() is None  # $EDGE_EMOTION_CONFIG is empty
    with pytest.raises(SettingError, match=r"write one: edge-emotion config init --config .*/none"):
        settings_file(tmp_path / "none.toml")
    monkeypatch.delenv("EDGE_EMOTION_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    mine = tmp_path / "edge-emotion" / "config.toml"
    mine.parent.mkdir()
    mine.write_text("")
    assert settings_file() == mine


def test_config_writes_a_file_and_says_what_counts(edge_emotion: Command, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    done = edge_emotion("config", "init", "--mic", "--threads", "2", "--config", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    again = edge_emotion("config", "init", "--config", file)
    assert again.returncode == 2
    assert "is there already; --force writes over it" in again.stderr
    told = edge_emotion("config", "--config", file, "--threads", "3").stdout
    assert f"mic = true{' ' * 34} # {file}" in told
    assert f"threads = 3{' ' * 33} # --threads" in told
    file.write_text("thrads = 2")
    wrong = edge_emotion("run", "--config", file)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "there is no setting 'thrads'; 'threads'?" in wrong.stderr


@pytest.mark.parametrize("command", [("config", "init"), ("setup", "--yes", "--listen", "tcp:1")])
def test_a_settings_file_means_the_same_from_any_folder(
    edge_emotion: Command, tmp_path: Path, command: tuple[str, ...], bundle_path: Path
) -> None:
    here = Path(os.path.relpath(tmp_path))
    for name in ("mine", "model", "default"):
        (tmp_path / name).symlink_to(bundle_path)
    file = tmp_path / "config.toml"
    paths = {"--file": "f.jsonl", "--keep-audio": "kept", "--mqtt-ca-file": "ca.pem"}
    given = [word for flag, name in paths.items() for word in (flag, here / name)]
    given += ["--bundle", here / "mine", "--text", f"vosk:{here / 'model'}"]
    done = edge_emotion(*command, "--config", file, *given)
    assert done.returncode == 0, done.stderr
    found = effective(RunSettings, argparse.Namespace(), file).settings
    assert found.text.startswith("vosk:/")
    model = found.text.removeprefix("vosk:")
    whole = [found.file.path, found.keep.audio, found.mqtt.ca_file, found.bundle, model]
    assert [os.path.normpath(str(path)) for path in whole] == [
        str(tmp_path / name) for name in (*paths.values(), "mine", "model")
    ]


def test_what_is_no_path_stays_as_it_is_in_a_settings_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("default", "off", "HOST", "asr"):
        Path(name).mkdir()
    for key, value in {
        "bundle": "default",
        "text": "asr",
        "name": "HOST",
        "listen": "tcp:4000",
        "mic_command": "cat HOST",
    }.items():
        assert lasting(key, value) == value
    assert lasting("text", "vosk:none") == "vosk:none"
    assert lasting("listen", "unix:~nobody-at-all/a") == f"unix:{tmp_path}/~nobody-at-all/a"


@pytest.mark.parametrize("by_variable", [True, False])
@pytest.mark.parametrize("command", [("config", "init"), ("setup", "--yes", "--listen", "tcp:1")])
def test_what_is_said_of_a_missing_settings_file_helps(
    command: tuple[str, ...],
    by_variable: bool,
    tmp_path: Path,
    environment: dict[str, str],
    bundle_path: Path,
) -> None:
    file = tmp_path / "own device.toml"
    given = [] if by_variable else ["--config", str(file)]
    where = {"EDGE_EMOTION_CONFIG": str(file)} if by_variable else {}

    def call(*arguments: str) -> CompletedProcess[str]:
        return run(
            [sys.executable, "-m", "edge_runtime.cli", *arguments],
            env={**environment, "XDG_CONFIG_HOME": str(tmp_path / "none"), **where},
            stdin=DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    missing = call("config", *given)
    assert missing.returncode == 2
    assert missing.stderr == (
        f"edge-emotion: no settings file {file}; write one: edge-emotion config init --config "
        f"'{file}'\n"
    )
    written = call(*command, *given)
    assert written.returncode == 0, written.stderr
    assert call("config", *given).stdout.startswith(f"# {file}")
    assert not (tmp_path / "none").exists()
    if command[0] == "config" and not by_variable:
        assert f"see what counts: edge-emotion config --config '{file}'" in written.stdout
