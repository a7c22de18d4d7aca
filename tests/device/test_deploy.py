"""`python -m conversion deploy` to a real sshd: what goes wrong leaves what ran there running."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from own_sshd import PATIENCE, OwnSshd

from conversion.deliver.keys import make_key, sign
from conversion.deliver.wheel import build_wheel
from edge_runtime.bundle import load_bundle
from edge_runtime.update.releases import PINNED_KEY

Deploy = Callable[..., subprocess.CompletedProcess[str]]
HOST = "127.0.0.1"
INSTALLS = 300  # seconds for an environment with NumPy and the interpreter, from an index


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel")).file


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnSshd]:
    own = OwnSshd(tmp_path_factory.mktemp("device"), Path(sys.executable))
    yield own
    own.close()


@pytest.fixture(scope="module")
def start(
    sshd: OwnSshd, wheel: Path, bundle_path: Path, environment: dict[str, str]
) -> Callable[..., subprocess.Popen[str]]:
    """Start a deployment to the device."""

    def run(
        *arguments: str | Path,
        bundle: Path = bundle_path,
        hosts: tuple[str, ...] = (HOST,),
        wheel: Path = wheel,
        ssh: list[str] | None = None,
    ) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "conversion", "deploy", bundle, *hosts]
        command += ["--wheel", wheel, "--extras", "", *(ssh or sshd.options()), *arguments]
        if "--python" not in arguments:
            command += ["--python", sshd.python]
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    return run


@pytest.fixture(scope="module")
def deploy(start: Callable[..., subprocess.Popen[str]]) -> Deploy:
    """The same, to its end."""

    def run(*arguments: str | Path, **further: object) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, **further)
        out, err = process.communicate(timeout=INSTALLS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


@pytest.fixture(scope="module")
def device(sshd: OwnSshd, deploy: Deploy) -> OwnSshd:
    """A device to which something was deployed."""
    done = deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    return sshd


@pytest.fixture(autouse=True)
def _the_old_one_runs(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that does not say otherwise, the release is what it was."""
    if request.node.get_closest_marker("usefixtures"):
        yield
        return
    device: OwnSshd = request.getfixturevalue("device")
    before = device.state()
    yield
    assert device.state() == before
    assert not list(device.releases.folder.glob(".incoming-*"))
    assert device.releases.numbers()[-1] == before[0]
    assert load_bundle(device.releases.place(before[0]) / "bundle").contents


def outcome(done: subprocess.CompletedProcess[str], host: str = HOST) -> str:
    """What the table says of a device."""
    (row,) = (line for line in done.stdout.splitlines() if re.match(rf"│ {host} ", line))
    return row.split("│")[3].strip()


def changed(bundle: Path, folder: Path) -> Path:
    """Another bundle."""
    copy = Path(shutil.copytree(bundle, folder / "changed"))
    with (copy / "MODEL_CARD.md").open("a") as card:
        card.write("Another one.\n")
    return copy


@pytest.mark.usefixtures("device")
def test_a_device_runs_what_was_deployed_and_keeps_what_was_before(
    device: OwnSshd, deploy: Deploy, bundle_path: Path, tmp_path: Path
) -> None:
    first, made_of = device.state()
    assert device.releases.program(first) is not None
    examined = device.run("doctor", "--bundle", "current")
    assert examined.returncode == 0, examined.stdout + examined.stderr
    (tmp_path / "empty.toml").touch()
    unit = device.run("service", "install", "--print", "--config", str(tmp_path / "empty.toml"))
    program = device.releases.folder / "current" / "program" / "bin" / "edge-emotion"
    assert f"ExecStart={program} run --config" in unit.stdout, "which a switch changes, too"
    assert f"ReadOnlyPaths=-{device.releases.folder}\n" in unit.stdout
    done = deploy(bundle=changed(bundle_path, tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sending 1 file" in done.stderr, "the program was there already"
    assert 'settings do not say bundle = "current"' in outcome(done)
    device.settings.parent.mkdir(parents=True)
    device.settings.write_text('bundle = "current"\n')
    done = deploy()
    assert outcome(done).startswith("runs default; no service runs here: ")
    assert device.releases.numbers() == [first + 1, first + 2]
    assert device.state() == (first + 2, made_of)
    assert device.run("update", "--back").returncode == 0
    assert device.state()[0] == first + 1
    assert deploy().returncode == 0
    assert device.releases.numbers() == [first + 1, first + 2]
    assert device.state() == (first + 2, made_of)


def test_each_of_several_devices_has_its_line_and_the_exit_code_says_it(
    deploy: Deploy, device: OwnSshd
) -> None:
    """No host of that name, and one whose key is not known."""
    before = (device._folder / "known").read_text()
    done = deploy("--jobs", "3", hosts=("nosuch.invalid", "localhost"))
    assert done.returncode == 1
    assert outcome(done, "nosuch.invalid") == "no host is called that"
    assert outcome(done, "localhost").startswith("its host key is not known here")
    assert (device._folder / "known").read_text() == before


def test_a_host_key_that_changed_is_told_apart(deploy: Deploy, device: OwnSshd) -> None:
    key = (device._folder / "stranger.pub").read_text()
    (device._folder / "changed").write_text(f"[{HOST}]:{device.port} {key}")
    done = deploy(ssh=device.options(known="changed"))
    assert done.returncode == 1
    assert outcome(done).startswith("its host key is another than before")


def test_who_has_no_key_is_not_let_in_nor_asked(deploy: Deploy, device: OwnSshd) -> None:
    done = deploy(ssh=device.options(identity="stranger"))
    assert done.returncode == 1
    assert outcome(done).startswith("it does not let you in by a key")


def test_a_transfer_that_is_cut_half_way_changes_nothing(
    deploy: Deploy, device: OwnSshd, bundle_path: Path, tmp_path: Path
) -> None:
    cut = device.cut(2_000_000, "close")
    done = deploy(*cut, bundle=changed(bundle_path, tmp_path))
    assert done.returncode == 1
    assert "the connection broke off" in outcome(done)
    wait_until_nobody_is_served(device)


def test_sshd_that_is_killed_half_way_changes_nothing(
    start: Callable[..., subprocess.Popen[str]], device: OwnSshd, bundle_path: Path, tmp_path: Path
) -> None:
    process = start(*device.cut(2_000_000, "hang"), bundle=changed(bundle_path, tmp_path))
    for pid in wait_for_half(device):
        os.kill(pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "the connection broke off" in out
    wait_until_nobody_is_served(device)


def test_an_interrupt_half_way_changes_nothing(
    start: Callable[..., subprocess.Popen[str]], device: OwnSshd, bundle_path: Path, tmp_path: Path
) -> None:
    process = start(*device.cut(2_000_000, "hang"), bundle=changed(bundle_path, tmp_path))
    wait_for_half(device)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, out + err
    assert "stopped before the switch" in out
    wait_until_nobody_is_served(device)


def wait_for_half(device: OwnSshd) -> list[int]:
    """Until a part of a bundle is there; whom sshd serves."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if any(f.stat().st_size > 0 for f in device.releases.folder.glob(".incoming-*/*")):
            return device.connections()
        time.sleep(0.05)
    raise AssertionError("nothing arrives")


def wait_until_nobody_is_served(device: OwnSshd) -> None:
    """What was received is removed by whoever received it, once the line is known to be cut."""
    deadline = time.monotonic() + PATIENCE
    while list(device.releases.folder.glob(".incoming-*")):
        assert time.monotonic() < deadline, "what arrived is still there"
        time.sleep(0.05)


def test_a_bundle_that_does_not_work_is_not_switched_to(
    deploy: Deploy, broken_bundle: Path
) -> None:
    done = deploy(bundle=broken_bundle)
    assert done.returncode == 1
    assert re.match("the release does not work: FAULT bundle .*head.tflite", outcome(done))


def test_settings_that_the_new_program_does_not_take_are_met_before_the_switch(
    deploy: Deploy, device: OwnSshd
) -> None:
    before = device.settings.read_text()
    device.settings.write_text("treads = 2\n")
    done = deploy()
    device.settings.write_text(before)
    assert done.returncode == 1
    assert "there is no setting 'treads'; 'threads'?" in outcome(done)


def test_what_listens_and_does_not_go_on_rolls_it_back(deploy: Deploy, device: OwnSshd) -> None:
    before = device.settings.read_text()
    device.settings.write_text(f"{before}apply_command = \"sh -c 'echo it is deaf; exit 3'\"\n")
    done = deploy()
    device.settings.write_text(before)
    assert done.returncode == 1
    assert "switching" in done.stderr
    assert outcome(done).startswith("rolled back: sh -c")
    assert outcome(done).endswith("ended with code 3: it is deaf")


@pytest.mark.usefixtures("device")
def test_a_signed_bundle_pins_its_key_and_no_other_nor_an_older_one_is_taken(
    deploy: Deploy, device: OwnSshd, bundle_path: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(bundle_path, tmp_path / "bundle"))
    for name in ("ours", "theirs"):
        make_key(tmp_path / name, "test", passphrase=False)
    key = ("--bundle-key", tmp_path / "ours.pub")
    sign(bundle, tmp_path / "ours", counter=2)
    assert deploy(*key, bundle=bundle).returncode == 0
    state = device.state()

    assert "is not signed" in outcome(deploy(bundle=bundle_path))
    sign(bundle, tmp_path / "theirs", counter=3)
    assert "is not signed by the key" in outcome(deploy(bundle=bundle))
    sign(bundle, tmp_path / "ours", counter=1)
    assert "is older (counter 1) than what was installed here (2)" in outcome(deploy(bundle=bundle))
    assert device.state() == state

    assert deploy("--allow-downgrade", bundle=bundle).returncode == 0
    assert device.run("doctor").returncode == 0
    assert "is not signed" in device.run("doctor", "--bundle", str(bundle_path)).stdout
    assert device.run("update", "--back").returncode == 0
    assert device.state() == state
    assert device.releases.pinned(PINNED_KEY) is not None
    assert device.run("update", "--unpin").returncode == 0
    assert deploy().returncode == 0, "which nobody signed"
    assert device.releases.pinned(PINNED_KEY) is None


@pytest.mark.usefixtures("device")
def test_a_program_that_does_not_start_any_more_is_installed_again(
    deploy: Deploy, device: OwnSshd
) -> None:
    """As after an upgrade of the system: the interpreter that it was made for is gone."""
    program = device.releases.program(device.releases.current)
    assert program is not None
    (program / "bin" / "python").unlink()
    (program / "bin" / "python").symlink_to("/nowhere/python3")
    done = deploy()
    assert "installing the program" in done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert device.run("doctor").returncode == 0
    packages = next(program.glob("lib/python*/site-packages/edge_runtime"))
    packages.rename(packages.with_name("elsewhere"))
    assert deploy().returncode == 0
    assert device.run("doctor").returncode == 0


def test_an_old_python_is_met_before_anything_is_sent(
    deploy: Deploy, wheel: Path, tmp_path: Path
) -> None:
    """The wheel asks for a Python that nobody has yet."""
    ahead = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(ahead, "w") as new:
        for member in old.infolist():
            content = old.read(member)
            new.writestr(member, content.replace(b"Python: >=3.11", b"Python: >=3.99"))
    done = deploy(wheel=ahead)
    assert done.returncode == 1
    assert re.match(r"its Python is 3\.1\d\.\d+, and 3\.99 or newer is needed", outcome(done))
    assert "sending" not in done.stderr


@pytest.mark.parametrize("name", ["python3", "[asr]python3", "[/dev/x]", ":smile:"])
def test_no_python_is_told(deploy: Deploy, name: str) -> None:
    """Whatever it is called: a table shows text as it is."""
    done = deploy("--python", f"/nowhere/{name}")
    assert done.returncode == 1
    assert outcome(done) == f"it has no /nowhere/{name}: sudo apt install python3"


@pytest.mark.skipif(not shutil.which("setarch"), reason="apt install util-linux")
def test_a_wrong_architecture_is_met_before_anything_is_sent(
    deploy: Deploy, device: OwnSshd, tmp_path: Path
) -> None:
    """The kernel itself says i686 to what is started so."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec setarch i686 {device.python} "$@"\n')
    python.chmod(0o755)
    done = deploy("--python", python)
    assert done.returncode == 1
    assert "its architecture is i686" in outcome(done)
    assert "sending" not in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_without_room_is_met_before_anything_is_sent(
    deploy: Deploy, small_disk: Callable[[int], Path]
) -> None:
    disk = small_disk(40)
    done = deploy("--folder", disk / "releases")
    assert done.returncode == 1
    assert re.search(r"has \d+ MB free, and \d+ are needed", outcome(done))
    assert "sending" not in done.stderr
    assert not list(disk.iterdir())


def test_packages_that_cannot_be_had_leave_nothing_behind(
    deploy: Deploy, device: OwnSshd, wheel: Path, tmp_path: Path
) -> None:
    """Without an index, and NumPy not among what was brought along."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    shutil.copy(wheel, wheels)
    programs = device.releases.folder / "programs"
    before = sorted(programs.iterdir())
    done = deploy("--wheels", wheels)
    assert done.returncode == 1
    assert "No matching distribution found for" in outcome(done)
    assert sorted(programs.iterdir()) == before
