"""An update and a real systemd: the service takes it, or all is as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_systemd import HOME, PYTHON, OwnSystemd
from static_server import serving

from edge_runtime.errors import EdgeError
from edge_runtime.service import manager
from edge_runtime.service.manager import Systemd, unit_of_this_installation
from edge_runtime.service.unit import TIMER, UNIT, UPDATE
from edge_runtime.update.running import what_listens

_QUIET = "sh -c 'while sleep 0.1; do head -c 3200 /dev/zero; done'"
_SETTINGS = f"""
bundle = "current"
text = "keywords"
mic_command = "{_QUIET}"
rate = 16000
out = "none"
"""


@pytest.mark.alone
def test_a_real_service_reloads_what_it_can_run_and_keeps_what_it_had(
    bundle_path: Path, deaf_to_words: Path, tmp_path: Path
) -> None:
    """A bundle that takes no words works, but not by the settings, which ask for words."""
    systemd = OwnSystemd(tmp_path / "systemd.log")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return systemd.run(PYTHON, "-P", "-m", "edge_runtime.cli", *map(str, arguments))

    def prop(name: str) -> str:
        return systemd.run("systemctl", "--user", "show", "edge-emotion", "-P", name).stdout.strip()

    try:
        settings = systemd.path(f"{HOME}/.config/edge-emotion/config.toml")
        settings.parent.mkdir(parents=True)
        settings.write_text(_SETTINGS)
        first = run("update", bundle_path)
        assert first.returncode == 0, first.stderr
        assert "no service runs here" in first.stderr
        installed = run("service", "install")
        assert installed.returncode == 0, installed.stderr + run("service", "logs").stdout
        main = prop("MainPID")

        second = run("update", bundle_path)
        assert second.returncode == 0, second.stderr
        assert "no service runs here" not in second.stderr
        assert prop("MainPID") == main
        assert "settings were read again, bundle default" in run("service", "logs").stdout

        third = run("update", deaf_to_words)
        assert third.returncode == 2, third.stdout
        assert "rolled back: edge-emotion.service: " in third.stderr
        assert "the settings stay as they are" in third.stderr
        assert (prop("MainPID"), prop("ActiveState")) == (main, "active")
        assert "stay as they are" not in prop("StatusText"), "told again, it took the old one"
        restart = "from edge_runtime.update.running import what_listens; what_listens(None)(True)"
        anew = systemd.run(PYTHON, "-P", "-c", restart)
        assert anew.returncode == 0, anew.stderr
        assert prop("MainPID") != main
        examined = run("doctor")
        assert examined.returncode == 0, examined.stdout
        assert "default: " in examined.stdout
    finally:
        systemd.close()


@pytest.mark.alone
def test_a_real_timer_takes_what_is_published_and_goes_with_the_service(
    bundle_path: Path, bundle_copy: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tuf", reason="pip install -e '.[deliver]'")
    from conversion.deliver import DAYS
    from conversion.deliver.repository import make_repository, publish

    repository, keys = tmp_path / "repository", tmp_path / "keys"
    make_repository(repository, keys, passphrase=False)
    publish(repository, keys, bundle_copy, "stable", DAYS)
    with serving(repository) as url:
        timer_comes_and_goes(OwnSystemd(tmp_path / "systemd.log"), repository, url, bundle_path)


def timer_comes_and_goes(
    systemd: OwnSystemd, repository: Path, url: str, bundle_path: Path
) -> None:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return systemd.run(PYTHON, "-P", "-m", "edge_runtime.cli", *map(str, arguments))

    def control(*arguments: str) -> subprocess.CompletedProcess[str]:
        return systemd.run("systemctl", "--user", *arguments)

    try:
        folder = systemd.path(f"{HOME}/.config/edge-emotion")
        folder.mkdir(parents=True)
        shutil.copy(repository / "metadata" / "1.root.json", folder / "root.json")
        polled = (
            f'repository = "{url}"\nrepository_root = "{HOME}/.config/edge-emotion/root.json"\n'
        )
        (folder / "config.toml").write_text(f"{_SETTINGS}{polled}")
        assert run("update", bundle_path).returncode == 0
        installed = run("service", "install")
        assert installed.returncode == 0, installed.stderr
        assert f"looks every hour, more or less, for what is new at {url}" in installed.stdout
        assert control("is-active", TIMER).stdout == "active\n"
        assert control("is-enabled", TIMER).stdout == "enabled\n"

        looked = control("start", UPDATE)
        assert looked.returncode == 0, run("service", "logs").stdout
        current = systemd.path(f"{HOME}/.local/share/edge-emotion/releases/current")
        assert current.readlink().name == "2"
        assert "settings were read again, bundle default" in run("service", "logs").stdout

        (folder / "config.toml").write_text(_SETTINGS)
        assert run("service", "install").returncode == 0
        units = systemd.path(f"{HOME}/.config/systemd/user")
        assert {path.name for path in units.iterdir() if path.is_file()} == {UNIT}
        (folder / "config.toml").write_text(f"{_SETTINGS}{polled}")
        assert run("service", "install").returncode == 0
        assert control("is-active", TIMER).stdout == "active\n"
        assert run("service", "remove").returncode == 0
        assert not [path for path in units.iterdir() if path.is_file()]
        assert control("is-active", TIMER).stdout == "inactive\n"
    finally:
        systemd.close()


def test_a_service_of_the_machine_is_roots_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script stands for systemctl: the tests have no machine's systemd."""
    script = tmp_path / "systemctl"
    script.write_text('#!/bin/sh\n[ "$1" = show ] && echo ActiveState=active\n')
    script.chmod(0o755)
    (tmp_path / UNIT).touch()
    monkeypatch.setattr(manager, "SYSTEM_FOLDER", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    untold: list[str] = []
    for another_program in (False, True):
        what_listens(None, untold.append)(another_program)
    assert untold == [
        f"the service of the machine was not told: sudo systemctl {action} edge-emotion"
        for action in ("reload", "restart")
    ]


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that everybody may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_program_that_others_cannot_open_is_no_service_of_the_machine(
    reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that root delivered for itself alone."""
    program, settings = reachable / "opt" / "python", reachable / "config.toml"
    program.parent.mkdir()
    for file in (program, settings):
        file.touch()
        file.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(manager, "__file__", str(program))
    machine = Systemd(system=True)
    assert unit_of_this_installation(machine, settings).system
    program.parent.chmod(0o700)
    line = f"{program.parent} cannot be opened by others than its owner.*: sudo chmod a.rX /"
    with pytest.raises(EdgeError, match=line):
        unit_of_this_installation(machine, settings)
    if os.getuid() == 0:
        with pytest.raises(EdgeError, match=f"{program.parent} cannot be opened by nobody"):
            unit_of_this_installation(machine, settings, user="nobody")
        assert unit_of_this_installation(machine, settings, user="root").user == "root"
