"""~ in the paths of settings, wherever they stand."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from edge_runtime.commands.settings import DeviceSettings
from edge_runtime.config import effective, settings_file, variable
from edge_runtime.errors import SettingError
from edge_runtime.settings import Option, add_arguments, options

PATHS = [option for option in options(DeviceSettings) if option.kind is Path]


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser, DeviceSettings, given_alone=True)
    return parser.parse_args(arguments)


@pytest.mark.parametrize("option", PATHS, ids=lambda option: option.key)
def test_it_is_the_users_folder_in_file_environment_and_command_line(
    option: Option, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    section, _, name = option.key.rpartition(".")
    file = tmp_path / "config.toml"
    file.write_text(f"{f'[{section}]' if section else ''}\n{name} = '~/there'\n")
    by_file = effective(DeviceSettings, parse(), file)
    by_line = effective(DeviceSettings, parse(f"{option.flag}=~/there"), None)
    monkeypatch.setenv(variable(option), "~/there")
    by_environment = effective(DeviceSettings, parse(), None)
    for found in (by_file, by_line, by_environment):
        assert found.values == {option.key: tmp_path / "there"}
        value: object = found.settings
        for field in option.path:
            value = getattr(value, field)
        assert value == tmp_path / "there"


def test_the_settings_file_itself_may_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "mine.toml"
    file.touch()
    assert settings_file(Path("~/mine.toml")) == file
    monkeypatch.setenv("EDGE_EMOTION_CONFIG", "~/mine.toml")
    assert settings_file() == file


def test_what_no_path_can_hold_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[file]\npath = "a\\u0000b"\n')
    with pytest.raises(SettingError, match="is no path: it has a NUL in it"):
        effective(DeviceSettings, parse(), file)


def test_the_folder_of_nobody_is_one_line() -> None:
    with pytest.raises(SettingError, match="~nobody-at-all/x: there is no such user") as caught:
        effective(DeviceSettings, parse("--file=~nobody-at-all/x"), None)
    assert "\n" not in str(caught.value)
