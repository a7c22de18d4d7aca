"""The unit as systemd reads it, judges it, and runs it; what it is told, on a real socket."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_systemd import CHECKOUT, HOME, PATIENCE, PYTHON, OwnSystemd

from edge_runtime.service.unit import UNIT, Unit

LOOP = Path(__file__).parent / "notified_loop.py"
MOST_EXPOSED = 3.0
analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="apt install systemd")


def unit_file(folder: Path, **changes: object) -> Path:
    """A unit of this interpreter, written."""
    command = (sys.executable, "-P", "-m", "edge_runtime.cli", "run", "--config")
    plain = Unit((*command, '/etc/a %h "$HOME"\\.toml', "--wait"), Path("/root/data"))
    path = folder / UNIT
    path.write_text(dataclasses.replace(plain, **changes).text())  # type: ignore[arg-type]
    return path


def systemd_analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
    )


def version() -> int:
    first = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True)
    return int(first.stdout.split()[1])


@analyze
@pytest.mark.parametrize("namespaces", [True, False])
@pytest.mark.parametrize("whose", ["--system", "--user"])
def test_systemd_finds_nothing_to_say_of_the_unit(
    tmp_path: Path, whose: str, namespaces: bool
) -> None:
    path = unit_file(
        tmp_path,
        system=whose == "--system",
        groups=("audio", "video") if whose == "--system" else (),
        environment=(("PYTHONPATH", "/a b/100%"),),
        writable=Path("/srv/ä %n"),
        namespaces=namespaces,
        version=version(),
    )
    done = systemd_analyze(tmp_path, whose, "verify", "--man=no", str(path))
    # Of other units on this machine it may well have something to say.
    assert [line for line in done.stderr.splitlines() if UNIT in line or str(path) in line] == []
    assert done.returncode == 0


@analyze
def test_systemd_would_tell_a_unit_with_a_mistake(tmp_path: Path) -> None:
    path = unit_file(tmp_path, system=True)
    path.write_text(path.read_text().replace("ProtectSystem=strict", "ProtectSystem=stirct"))
    assert "stirct" in systemd_analyze(tmp_path, "verify", "--man=no", str(path)).stderr


@analyze
@pytest.mark.parametrize("user", [None, "root"])
def test_the_exposure_of_the_service_of_the_machine_is_small(
    tmp_path: Path, user: str | None
) -> None:
    path = unit_file(tmp_path, system=True, user=user, groups=("audio", "video"))
    assert exposure(tmp_path, "--system", path) <= MOST_EXPOSED


@analyze
def test_the_exposure_of_the_service_of_a_user_is_small_but_for_being_no_roots(
    tmp_path: Path,
) -> None:
    # systemd-analyze takes what has no User= for root's; a user's manager has no such setting to
    # begin with. So it is judged with the user that it has.
    path = unit_file(tmp_path)
    path.write_text(path.read_text().replace("[Service]", "[Service]\nUser=nobody"))
    assert exposure(tmp_path, "--user", path) <= MOST_EXPOSED


def exposure(folder: Path, whose: str, path: Path) -> float:
    """What `systemd-analyze security` says, from 0 to 10."""
    done = systemd_analyze(folder, whose, "security", "--offline=true", "--no-pager", str(path))
    found = re.search(rf"Overall exposure level for {re.escape(UNIT)}: ([\d.]+)", done.stdout)
    assert found, done.stderr
    print(f"exposure {whose}: {found[1]}")
    return float(found[1])


class Manager:
    """Where a service manager would listen: a datagram socket, and a child that it has started."""

    def __init__(self, address: str, watchdog: float, pause: float = 0.005) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.process = subprocess.Popen(
            [sys.executable, str(LOOP), str(pause)],
            env={
                **os.environ,
                "PYTHONPATH": str(LOOP.parent.parent.parent),
                "NOTIFY_SOCKET": address,
                "WATCHDOG_USEC": str(round(watchdog * 1e6)),
            },
            stderr=subprocess.PIPE,
            text=True,
        )

    def hear(self, seconds: float = PATIENCE) -> str | None:
        """The next message; None where none comes in that time."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(4096).decode()
        except TimeoutError:
            return None

    def hear_until(self, start: str) -> str:
        """The next message that starts so."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self.hear()
            if message and message.startswith(start):
                return message
        raise AssertionError(f"no {start} in {PATIENCE} s")

    def silence(self, seconds: float) -> bool:
        """Whether what is under way is followed by nothing for so long."""
        self.hear(0.5)
        self.hear(0.01)
        return self.hear(seconds) is None

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A manager whose watchdog waits a second."""
    abstract = f"@edge-emotion-{os.getpid()}-{time.monotonic_ns()}"
    address = abstract if request.param == "abstract" else str(tmp_path / "notify")
    manager = Manager(address, watchdog=1.0)
    yield manager
    manager.close()


@pytest.mark.realtime
@pytest.mark.usefixtures("bundle_path")
def test_the_loop_tells_that_it_is_ready_alive_reloading_and_ending(manager: Manager) -> None:
    assert manager.hear() == "READY=1\nSTATUS=judging scene.flac in blocks"
    assert manager.hear() == "WATCHDOG=1"
    assert manager.hear() == "WATCHDOG=1"
    manager.process.send_signal(signal.SIGHUP)
    before = time.monotonic_ns() // 1000
    reloading = manager.hear_until("RELOADING=1")
    (at,) = re.findall(r"^MONOTONIC_USEC=(\d+)$", reloading, re.M)
    assert before - 60e6 < int(at) < time.monotonic_ns() // 1000
    assert manager.hear() == "READY=1\nSTATUS=reloaded"
    manager.process.send_signal(signal.SIGTERM)
    manager.hear_until("STOPPING=1")
    assert manager.process.wait(PATIENCE) == 0


@pytest.mark.realtime
@pytest.mark.usefixtures("bundle_path")
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGUSR1], ids=["stopped", "hanging"])
def test_a_loop_that_does_not_go_on_is_not_alive(tmp_path: Path, number: signal.Signals) -> None:
    manager = Manager(str(tmp_path / "notify"), watchdog=1.0)
    try:
        manager.hear_until("READY=1")
        manager.hear_until("WATCHDOG=1")
        manager.process.send_signal(number)
        # Every half second before.
        assert manager.silence(3.0)
        if number == signal.SIGSTOP:
            manager.process.send_signal(signal.SIGCONT)
            manager.hear_until("WATCHDOG=1")
    finally:
        manager.close()


# Nobody listens there.
SETTINGS = 'mic = true\n[mqtt]\nbroker = "mqtt://127.0.0.1:1"\n'
# What the loop of the tests needs in place of `run`.
_DROP_IN = f"""
[Service]
ExecStart=
ExecStart={PYTHON} {CHECKOUT}/tests/device/notified_loop.py 0.005
WatchdogSec=3
RestartSec=100ms
"""


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[OwnSystemd]:
    """A user's systemd, with settings and the loop of the tests in place of `run`."""
    own = OwnSystemd(tmp_path / "systemd.log")
    try:
        settings = own.path(f"{HOME}/.config/edge-emotion/config.toml")
        drop_in = own.path(f"{HOME}/.config/systemd/user/{UNIT}.d/loop.conf")
        for path, text in ((settings, SETTINGS), (drop_in, _DROP_IN)):
            path.parent.mkdir(parents=True)
            path.write_text(text)
        yield own
    finally:
        own.close()


@pytest.mark.realtime
@pytest.mark.usefixtures("bundle_path")
def test_a_real_systemd_installs_watches_reloads_and_removes_it(systemd: OwnSystemd) -> None:
    def service(*arguments: str) -> subprocess.CompletedProcess[str]:
        return systemd.run(PYTHON, "-m", "edge_runtime.cli", "service", *arguments)

    def prop(name: str) -> str:
        return systemd.run("systemctl", "--user", "show", UNIT, "-P", name).stdout.strip()

    def wait_for(name: str, value: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while prop(name) != value:
            assert time.monotonic() < deadline, (name, prop(name))
            time.sleep(0.1)

    before = service("status")
    assert before.returncode == 1
    assert "is not installed: edge-emotion service install" in before.stdout

    installed = service("install")
    assert installed.returncode == 0, installed.stderr + service("logs").stdout
    text = systemd.path(f"{HOME}/.config/systemd/user/{UNIT}").read_text()
    settings = f"{HOME}/.config/edge-emotion/config.toml"
    assert f"ExecStart={PYTHON} -P -m edge_runtime.cli run --config {settings} --wait" in text
    assert "says: judging scene.flac in blocks" in installed.stdout
    assert "enable-linger" in installed.stderr
    assert prop("UnitFileState") == "enabled"
    assert service("status").returncode == 0

    first = prop("MainPID")
    systemd.run("systemctl", "--user", "reload", UNIT)
    wait_for("StatusText", "reloaded")
    assert prop("MainPID") == first

    systemd.run("systemctl", "--user", "kill", "--kill-whom=main", "--signal=SIGUSR1", UNIT)
    wait_for("NRestarts", "1")
    wait_for("StatusText", "judging scene.flac in blocks")
    assert prop("MainPID") != first

    logs = service("logs")
    assert len(re.findall(r"edge-emotion\[\d+\]: it begins$", logs.stdout, re.M)) == 2
    assert "<4>" not in logs.stdout  # a priority, not text
    warnings = systemd.run("journalctl", "--user-unit", UNIT, "--priority=4..4", "--output=cat")
    assert warnings.stdout.count("it begins") == 2

    removed = service("remove")
    assert removed.returncode == 0, removed.stderr
    assert "Home Assistant may still show this device" in removed.stderr
    assert prop("LoadState") == "not-found" or prop("FragmentPath") == ""
    assert prop("ActiveState") == "inactive"
    assert "is not installed" in service("remove").stderr


@pytest.mark.realtime
def test_a_real_systemd_passes_odd_words_on_as_they_are(systemd: OwnSystemd) -> None:
    folder = '/run/o d;d/%h "$HOME" ä\'\\x'
    program = "/run/o d;d/%h $HOME ä"  # systemd takes no program with a quote in its name
    words = ["%n", "$HOME", "${HOME}", "a  b", 'q"q', "it's", "back\\slash", ";", "", "tab\t"]
    systemd.path(folder).mkdir(parents=True)
    systemd.path(program).symlink_to(PYTHON)
    say = "import os, sys; open(sys.argv[1], 'w').write(repr((sys.argv[2:], os.environ['ODD'])))"
    unit = Unit(
        (program, "-c", say, f"{folder}/said", *words),
        Path("/run/nowhere"),
        environment=(("ODD", '50% of $HOME "x" \\'),),
        writable=Path(folder),
    )
    path = systemd.path(f"{HOME}/.config/systemd/user/odd.service")
    path.write_text(unit.text().replace("Type=notify", "Type=oneshot"))
    path.write_text(path.read_text().replace("Restart=always", "Restart=no"))
    systemd.run("systemctl", "--user", "daemon-reload")
    started = systemd.run("systemctl", "--user", "start", "odd")
    assert started.returncode == 0, systemd.run("journalctl", "--user-unit=odd").stdout
    said = systemd.path(f"{folder}/said").read_text()
    assert said == repr((words, '50% of $HOME "x" \\'))
