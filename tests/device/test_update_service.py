"""An update and a real systemd: the service takes it, or all is as it was."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from own_systemd import HOME, PYTHON, OwnSystemd

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
