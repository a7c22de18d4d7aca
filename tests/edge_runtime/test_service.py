"""The unit's text, and what a user is told where systemd cannot do what was asked."""

from __future__ import annotations

import dataclasses
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.commands.service import ServiceSettings, install
from edge_runtime.errors import EdgeError
from edge_runtime.service import manager
from edge_runtime.service.manager import Systemd, describe, unit_of_this_installation
from edge_runtime.service.unit import UNIT, Unit, quoted

PLAIN = Unit(("/usr/bin/python3", "-P", "-m", "edge_runtime.cli", "run"), Path("/home/anna/data"))
BOOTED = Path("/run/systemd/system").is_dir()
not_booted = pytest.mark.skipif(
    BOOTED or not shutil.which("systemctl"),
    reason="for a machine with systemctl that was not booted with systemd: a container",
)


def keys(text: str) -> dict[str, list[str]]:
    """What a unit says, by its keys."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def test_both_units_are_watched_restarted_and_closed_in() -> None:
    for system in (False, True):
        found = keys(dataclasses.replace(PLAIN, system=system).text())
        for key, value in {
            "Type": "notify",
            "NotifyAccess": "main",
            "WatchdogSec": "30",
            "Restart": "always",
            "StartLimitIntervalSec": "0",
            "KillMode": "mixed",
            "ExecReload": "kill -HUP $MAINPID",
            "NoNewPrivileges": "yes",
            "ProtectSystem": "strict",
            "PrivateTmp": "yes",
            "CapabilityBoundingSet": "",
            "UMask": "0077",
            "MemoryMax": "768M",
            "StandardOutput": "null",
        }.items():
            assert found[key] == [value], key
        assert found["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]


def test_a_users_unit_has_what_a_users_manager_can_do() -> None:
    found = keys(PLAIN.text())
    assert not {"User", "DynamicUser", "SupplementaryGroups", "DeviceAllow", "PrivateIPC"} & set(
        found
    )
    assert found["PrivateUsers"] == ["yes"]
    assert found["ReadWritePaths"] == ["-/home/anna/data"]
    waiting = dataclasses.replace(PLAIN, state=Path("/home/anna/state"))
    assert keys(waiting.text())["ReadWritePaths"] == ["-/home/anna/data", "-/home/anna/state"]
    assert found["WantedBy"] == ["default.target"]
    # Without namespaces, what needs them would end the service (218/CAPABILITIES, 217/USER).
    without = keys(dataclasses.replace(PLAIN, namespaces=False).text())
    assert not {"PrivateUsers", "ProtectKernelModules", "ProtectClock"} & set(without)
    assert without["NoNewPrivileges"] == ["yes"]


def test_a_unit_of_the_machine_runs_as_nobody_in_particular_or_as_who_is_named() -> None:
    made_up = dataclasses.replace(PLAIN, system=True, groups=("audio",))
    found = keys(made_up.text())
    assert found["DynamicUser"] == ["yes"]
    assert found["SupplementaryGroups"] == ["audio"]
    assert found["ProtectHome"] == ["yes"]
    assert found["StateDirectory"] == ["edge-emotion"]
    assert found["Environment"] == ["XDG_DATA_HOME=%S"]
    assert "ReadWritePaths" not in found
    assert found["DevicePolicy"] == ["closed"]
    assert "char-alsa rw" in found["DeviceAllow"]
    named = keys(dataclasses.replace(made_up, user="anna").text())
    assert named["User"] == ["anna"]
    assert "DynamicUser" not in named
    assert named["ProtectHome"] == ["read-only"]


def test_pauses_grow_where_systemd_can_do_that() -> None:
    assert "RestartMaxDelaySec" not in PLAIN.text()
    assert "RestartMaxDelaySec=60" in dataclasses.replace(PLAIN, version=254).text()


def test_events_go_to_the_journal_only_where_that_is_asked_for() -> None:
    asked = dataclasses.replace(PLAIN, journal_events=True, memory_mb=500).text()
    assert keys(asked)["StandardOutput"] == ["journal"]
    assert keys(asked)["MemoryHigh"] == ["400M"]


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("100%", "100%%"),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("it's", '"it\'s"'),
        ("line\nbreak", '"line\\x0abreak"'),
        ("ä", "ä"),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, written: str) -> None:
    assert quoted(word) == written


def test_a_dollar_is_one() -> None:
    text = dataclasses.replace(PLAIN, command=("/bin/echo", "$HOME")).text()
    assert "ExecStart=:/bin/echo $HOME\n" in text


@pytest.fixture
def settings() -> Path:
    """A settings file that everybody can read, in no folder that is hidden."""
    return Path(__file__).parent.parent.parent / "pyproject.toml"


def test_the_unit_starts_this_very_interpreter(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "a b:/c")
    unit = unit_of_this_installation(Systemd(system=False), settings)
    assert unit.command[0] == sys.executable
    assert unit.command[-3:] == ("--config", str(settings), "--wait")
    assert unit.environment == (("PYTHONPATH", f"{Path.cwd()}/a b:/c"),)


def test_who_is_not_there_cannot_run_it(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EdgeError, match=r"no user 'no-one-here'.*useradd"):
        unit_of_this_installation(Systemd(system=True), settings, user="no-one-here")
    with pytest.raises(EdgeError, match="--system --user NAME"):
        unit_of_this_installation(Systemd(system=False), settings, user="root")
    monkeypatch.setattr(sys, "executable", "/home/anna/venv/bin/python")
    with pytest.raises(EdgeError, match=r"in a home.*--user NAME"):
        unit_of_this_installation(Systemd(system=True), settings)
    named = pwd.getpwuid(os.getuid())
    unit = unit_of_this_installation(Systemd(system=True), settings, user=named.pw_name)
    assert unit.user == named.pw_name
    assert unit.data == Path(named.pw_dir) / ".local" / "share" / "edge-emotion"


def test_the_folder_of_the_data_is_made_and_is_its_users(tmp_path: Path) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    unit = dataclasses.replace(PLAIN, data=tmp_path / "a" / "b", user=name)
    manager.prepare_data(unit)
    manager.prepare_data(unit)
    assert unit.data.stat().st_mode & 0o777 == 0o700
    assert unit.data.parent.owner() == name


@pytest.mark.parametrize("via", ["bus", "user scope bus via local transport"])
def test_a_user_by_sudo_or_su_is_told_why_it_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, via: str
) -> None:
    """The words of systemd 252 and 257; a script says them, where the machine was booted."""
    script(tmp_path, "systemctl", f"echo 'Failed to connect to {via}: No medium found' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    with pytest.raises(EdgeError, match=r"log in as the user .* XDG_RUNTIME_DIR=/run/user/\d+"):
        Systemd(system=False).state()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that everybody may look into, as all above it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_settings_that_the_service_could_not_read_are_refused(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "_HOMES", ())
    file = open_folder / "config.toml"
    file.touch(0o600)
    with pytest.raises(EdgeError, match="chmod 644"):
        unit_of_this_installation(Systemd(system=True), file)
    file.chmod(0o644)
    assert unit_of_this_installation(Systemd(system=True), file).system
    open_folder.chmod(0o700)
    with pytest.raises(EdgeError, match=f"{open_folder} is closed to others; put it elsewhere"):
        unit_of_this_installation(Systemd(system=True), file)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_who_runs_the_service_has_to_be_able_to_read_what_it_reads(
    open_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, secret = open_folder / "config.toml", open_folder / "mqtt"
    file.write_text(f'[mqtt]\npassword_file = "{secret}"\n')
    file.chmod(0o600)
    secret.touch(0o600)
    named = pwd.getpwnam("nobody")
    wanted = ServiceSettings(file, system=True, user="nobody", print=True)
    for one in (file, secret):
        with pytest.raises(EdgeError) as refused:
            install(Systemd(system=True), wanted)
        assert str(refused.value) == (f"{one} cannot be read by nobody: sudo chown nobody {one}")
        os.chown(one, named.pw_uid, -1)
    assert install(Systemd(system=True), wanted) == 0
    os.chown(secret, 0, named.pw_gid)
    with pytest.raises(EdgeError, match="cannot be read by nobody"):
        install(Systemd(system=True), wanted)
    secret.chmod(0o640)
    assert install(Systemd(system=True), wanted) == 0
    assert "User=nobody" in capsys.readouterr().out


def test_what_the_service_would_not_find_is_told(
    capfd: pytest.CaptureFixture[str],
) -> None:
    unit_of_this_installation(Systemd(system=False), Path("/tmp/config.toml"))
    assert "/tmp/config.toml is in a folder for what is temporary" in capfd.readouterr().err


@not_booted
@pytest.mark.parametrize("system", [False, True])
def test_a_machine_without_a_running_systemd_is_one_line(system: bool) -> None:
    """The real systemctl says it, in several words and lines."""
    with pytest.raises(EdgeError) as found:
        Systemd(system).version()
    assert str(found.value).startswith("System has not been booted with systemd (a container?)")
    assert "\n" not in str(found.value)


def test_a_machine_without_systemctl_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for ask in (Systemd(False).version, Systemd(True).state, lambda: Systemd(False).logs(1, False)):
        with pytest.raises(
            EdgeError, match=r"systemd is not here: there is no (systemctl|journal)"
        ):
            ask()


@pytest.mark.skipif(not shutil.which("journalctl"), reason="apt install systemd")
def test_logs_are_those_of_journalctl(capfd: pytest.CaptureFixture[str]) -> None:
    code = Systemd(system=False).logs(lines=1, follow=False)
    said = "".join(capfd.readouterr())
    asked = ["journalctl", "--user-unit", UNIT, "--lines=1", "--no-pager"]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert (code, said) == (done.returncode, done.stdout + done.stderr)


# From here on a script stands for systemctl or loginctl, where a running systemd (or logind) would
# be needed to be refused by it. tests/device/test_unit.py has a real one.


def script(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_who_may_not_is_given_the_command_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, "systemctl", "echo 'Interactive authentication required.' >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["edge-emotion", "service", "install", "--system"])
    with pytest.raises(EdgeError) as found:
        Systemd(system=True).version()
    again = f"sudo {sys.executable} -P -m edge_runtime.cli service install --system"
    assert str(found.value) == f"systemctl show: permission denied; as root: {again}"


@pytest.mark.parametrize("linger", ["yes", "no"])
def test_a_users_service_is_told_to_linger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linger: str
) -> None:
    script(tmp_path, "loginctl", f"echo {linger}")
    monkeypatch.setenv("PATH", str(tmp_path))
    advice = manager.linger_advice()
    assert ("sudo loginctl enable-linger" in advice) == (linger == "no")


def test_installing_and_removing_writes_and_deletes_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    script(tmp_path, "systemctl", f'echo "$@" >> {asked}')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    systemd = Systemd(system=False)
    with pytest.raises(EdgeError, match="is not installed"):
        systemd.remove()
    systemd.install(PLAIN.text())
    systemd.install(PLAIN.text())  # what was there is replaced
    folder = tmp_path / "home" / "systemd" / "user"
    assert [path.name for path in folder.iterdir()] == [UNIT]
    assert (folder / UNIT).read_text() == PLAIN.text()
    systemd.remove()
    assert list(folder.iterdir()) == []
    order = [line.removeprefix("--user ") for line in asked.read_text().splitlines()]
    assert order[:3] == ["daemon-reload", f"enable {UNIT}", f"restart {UNIT}"]
    assert order[6:] == [f"disable --now {UNIT}", "daemon-reload", f"reset-failed {UNIT}"]


def test_a_service_that_does_not_start_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, "systemctl", 'case "$*" in *restart*) echo "Job failed." >&2; exit 1;; esac')
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    with pytest.raises(EdgeError, match=r"did not start \(see edge-emotion service logs\).*failed"):
        Systemd(system=False).install(PLAIN.text())


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_unit_of_the_machine_is_roots_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path, "systemctl", "true")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgeError, match="permission denied; as root: sudo"):
        Systemd(system=True).install(PLAIN.text())


def test_the_state_is_told_in_lines() -> None:
    state = {
        "LoadState": "loaded",
        "UnitFileState": "enabled",
        "ActiveState": "activating",
        "SubState": "auto-restart",
        "StatusText": "",
        "NRestarts": "3",
        "MemoryCurrent": "[not set]",
        "Result": "watchdog",
    }
    lines = describe(Systemd(system=True), state)
    assert lines[0] == f"{UNIT} of this machine: activating (auto-restart)"
    assert "ended by: watchdog; why: edge-emotion service logs --system" in lines
    assert "started again: 3 times" in lines
    assert not any("memory" in line for line in lines)
    running = {**state, "ActiveState": "active", "MemoryCurrent": "85000000", "NRestarts": "0"}
    assert "memory: 85 MB" in describe(Systemd(system=False), running)


def test_the_command_prints_a_unit_and_changes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from edge_runtime.commands.service import add\n"
        "from edge_runtime.console import command_parser, run_command\n"
        "parser, commands = command_parser('edge-emotion', '', ''); add(commands)\n"
        "parsed = parser.parse_args()\n"
        "sys.exit(run_command('edge-emotion', lambda: parsed.command(parsed)))"
    )
    root = Path(__file__).parent.parent.parent
    variables = {**os.environ, "PYTHONPATH": str(root), "XDG_CONFIG_HOME": str(tmp_path)}
    variables |= {"HOME": str(tmp_path), "EDGE_EMOTION_CONFIG": ""}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, "service", *arguments],
            capture_output=True,
            text=True,
            env=variables,
        )

    missing = run("install", "--print")
    assert missing.returncode == 2
    assert "write one: edge-emotion config init" in missing.stderr
    (tmp_path / "edge-emotion").mkdir()
    (tmp_path / "edge-emotion" / "config.toml").write_text("mic = true\n")
    del variables["EDGE_EMOTION_CONFIG"]
    printed = run("install", "--print", "--memory-mb", "400")
    assert printed.returncode == 0, printed.stderr
    assert keys(printed.stdout)["MemoryMax"] == ["400M"]
    assert [path.name for path in tmp_path.iterdir()] == ["edge-emotion"]
