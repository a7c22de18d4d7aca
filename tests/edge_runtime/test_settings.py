"""Settings: their command line, and what they refuse."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime import EmotionStream
from edge_runtime.bundle import Bundle
from edge_runtime.commands.bench import BenchSettings
from edge_runtime.commands.doctor import DoctorSettings
from edge_runtime.commands.settings import RunSettings
from edge_runtime.console import command_parser
from edge_runtime.errors import SettingError
from edge_runtime.graph import Graph
from edge_runtime.settings import (
    Limits,
    Settings,
    add_arguments,
    check_number,
    from_arguments,
    number,
    options,
    setting,
)


@dataclass(frozen=True)
class Played(Settings):
    """What a command could have."""

    level: int = setting(3, "How much, 100 % at most.", minimum=0, maximum=100)
    name: str | None = setting(None, "Whose.")
    folder: Path = setting(Path("here"), "Where.")
    loud: bool = setting(False, "Whether it can be heard.")
    tempo: str = setting("slow", "How fast.", choices=("slow", "fast"))
    fade: float = setting(0.5, "Share of it that fades.", above=0, below=1)
    limit: float | None = setting(None, "The longest, s.", above=0)


def parse(*arguments: str) -> Played:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Played)
    return from_arguments(Played, parser.parse_args(arguments))


def test_settings_are_their_own_command_line() -> None:
    assert parse() == Played()
    words = ("--level", "7", "--name", "x", "--folder", "/a", "--loud", "--tempo", "fast")
    given = parse(*words, "--fade", "0.25", "--limit", "3")
    assert given == Played(7, "x", Path("/a"), True, "fast", 0.25, 3.0)
    assert parse("--loud", "--no-loud") == Played()


def test_the_help_says_what_a_setting_does_and_what_it_may_be() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser, Played)
    text = " ".join(parser.format_help().split())
    assert "How much, 100 % at most. (from 0 to 100; default: 3)" in text
    assert "Whether it can be heard." in text
    assert "Share of it that fades. (above 0 and below 1; default: 0.5)" in text


def test_a_docstring_stands_in_for_the_help() -> None:
    @dataclass(frozen=True)
    class Plain:
        """Settings."""

        pitch: int = 3
        """How high."""

    parser = argparse.ArgumentParser()
    add_arguments(parser, Plain)
    assert "How high. (default: 3)" in parser.format_help()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--level", "x"], "--level: must be a whole number from 0 to 100, not 'x'"),
        (["--level", "2.5"], "--level: must be a whole number from 0 to 100, not '2.5'"),
        (["--level", "101"], "--level: must be a whole number from 0 to 100, not '101'"),
        (["--level", "-1"], "--level: must be a whole number from 0 to 100, not '-1'"),
        (["--fade", "0"], "--fade: must be a number above 0 and below 1, not '0'"),
        (["--fade", "1"], "--fade: must be a number above 0 and below 1, not '1'"),
        (["--fade", "nan"], "--fade: must be a number above 0 and below 1, not 'nan'"),
        (["--limit", "inf"], "--limit: must be a number above 0, not 'inf'"),
        (["--tempo", "moderate"], "--tempo: invalid choice: 'moderate'"),
        (["--folder"], "--folder: expected one argument"),
    ],
)
def test_a_wrong_argument_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser, commands = command_parser("player", "Plays.", "")
    add_arguments(commands.add_parser("play"), Played)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["play", *arguments])
    assert end.value.code == 2
    (found,) = capsys.readouterr().err.splitlines()
    assert found.startswith(f"player play: argument {line}")


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"level": 101}, "level must be a whole number from 0 to 100, not 101"),
        ({"level": 2.0}, "level must be a whole number from 0 to 100, not 2.0"),
        ({"level": True}, "level must be a whole number from 0 to 100, not True"),
        ({"level": None}, "level must be a whole number from 0 to 100, not None"),
        ({"level": "7"}, "level must be a whole number from 0 to 100, not '7'"),
        ({"fade": math.nan}, "fade must be a number above 0 and below 1, not nan"),
        ({"limit": math.inf}, "limit must be a number above 0, not inf"),
        ({"tempo": "moderate"}, "tempo must be one of slow, fast, not 'moderate'"),
    ],
)
def test_a_wrong_value_from_python_is_refused_as_well(values: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingError) as refusal:
        Played(**values)
    assert str(refusal.value) == line


def test_numbers_of_any_kind_are_numbers() -> None:
    assert Played(level=np.int64(7), fade=np.float32(0.5)).level == 7
    assert Played(limit=3).limit == 3


@pytest.mark.parametrize(
    ("limits", "allowed", "refused"),
    [
        (Limits(), [-1e300, 0, 1e300], [math.inf, -math.inf, math.nan]),
        (Limits(minimum=1, maximum=2), [1, 2], [0.999, 2.001]),
        (Limits(above=1, below=2), [1.001, 1.999], [1, 2]),
        (Limits(minimum=1, below=2), [1, 1.999], [0.999, 2]),
    ],
)
def test_bounds_hold_where_they_say(
    limits: Limits, allowed: list[float], refused: list[float]
) -> None:
    for value in allowed:
        check_number("it", value, float, limits)
        assert number(float, limits)(str(value)) == value
    for value in refused:
        with pytest.raises(SettingError):
            check_number("it", value, float, limits)
        with pytest.raises(argparse.ArgumentTypeError):
            number(float, limits)(str(value))


def test_a_setting_without_a_command_line_form_is_a_mistake_of_the_programmer() -> None:
    @dataclass(frozen=True)
    class Wrong:
        """Settings."""

        points: dict[str, int] = field(default_factory=dict)
        """A table."""

    with pytest.raises(TypeError, match="no command line form"):
        add_arguments(argparse.ArgumentParser(), Wrong)


@pytest.mark.parametrize("settings", [RunSettings, BenchSettings, DoctorSettings])
def test_every_setting_of_the_device_carries_its_help_and_its_bounds(settings: type[Any]) -> None:
    for option in options(settings):
        assert option.help
        if isinstance(option.default, (int, float)) and not isinstance(option.default, bool):
            assert str(option.metadata["limits"]), option.key


@pytest.mark.parametrize(
    "make",
    [
        lambda bundle: RunSettings(threads=65),
        lambda bundle: Graph(bundle.contents["head"], threads=65),
        lambda bundle: EmotionStream(bundle, threads=65),
        lambda bundle: EmotionStream(bundle, partial_seconds=-1),
        lambda bundle: EmotionStream(bundle, partial_seconds=math.nan),
    ],
)
def test_python_meets_the_bounds_of_the_command_line(
    bundle: Bundle, make: Callable[[Bundle], Any]
) -> None:
    with pytest.raises(SettingError, match=r"^(threads|partial_seconds) must be a .* from \d+ to"):
        make(bundle)
