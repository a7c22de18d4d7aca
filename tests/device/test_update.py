"""`edge-emotion update` from a real web server: what goes wrong leaves the old bundle current."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from static_server import serving

pytest.importorskip("tuf", reason="pip install -e '.[deliver]'")

from conversion.deliver import DAYS
from conversion.deliver.keys import make_key, sign
from conversion.deliver.repository import Published, make_repository, publish
from edge_runtime.bundle import load_bundle
from edge_runtime.update.releases import Releases

PATIENCE = 60  # seconds until something that should have happened counts as a hang
ROOM = 12  # MB of a small disk: a bundle and a half


@dataclass
class Fleet:
    """An update repository that is served, and a device that polls it."""

    repository: Path
    keys: Path
    url: str
    home: Path
    environment: dict[str, str]

    def publish(self, bundle: Path | None, **days: int) -> Published:
        return publish(self.repository, self.keys, bundle, "stable", {**DAYS, **days})

    def update(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Poll, with the first root pinned."""
        root = ("--repository-root", self.home / "root.json")
        return self.command("update", "--repository", self.url, *root, *arguments)

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_runtime.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=PATIENCE,
        )

    @property
    def releases(self) -> Releases:
        return Releases(Path(self.environment["XDG_DATA_HOME"]) / "edge-emotion" / "releases")

    @property
    def current(self) -> tuple[int, str]:
        """The number of the current release and its card, once its bundle is found to be whole."""
        number = self.releases.current
        bundle = self.releases.place(number) / "bundle"
        load_bundle(bundle.resolve())
        return number, (bundle / "MODEL_CARD.md").read_text()[-18:]


@pytest.fixture(scope="module")
def bundles(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three that differ by the last line of their cards."""
    made = []
    for number in (1, 2, 3):
        folder = tmp_path_factory.mktemp("bundles") / f"v{number}"
        shutil.copytree(bundle_path, folder)
        with (folder / "MODEL_CARD.md").open("a") as card:
            card.write(f"This is number {number}.\n")
        made.append(folder)
    return made


@pytest.fixture(scope="module")
def begun(
    bundles: list[Path],
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a repository of two bundles, and a device that has the first of them."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "home").mkdir()
    make_repository(folder / "repository", folder / "keys", passphrase=False)
    shutil.copy(folder / "repository" / "metadata" / "1.root.json", folder / "home" / "root.json")
    with served(folder, environment) as made:
        made.publish(bundles[0])
        done = made.update()
        assert done.returncode == 0, done.stderr
        made.publish(bundles[1])
    return folder


@pytest.fixture
def fleet(begun: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Fleet]:
    """A copy of what was begun."""
    with served(Path(shutil.copytree(begun, tmp_path / "fleet", symlinks=True)), environment) as f:
        assert f.current == (1, "This is number 1.\n")
        yield f


@contextmanager
def served(folder: Path, environment: dict[str, str]) -> Iterator[Fleet]:
    """The repository in a folder, served; and the device."""
    repository, keys, home = (folder / name for name in ("repository", "keys", "home"))
    variables = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "XDG_RUNTIME_DIR": ""}
    with serving(repository) as url:
        yield Fleet(repository, keys, url, home, {**environment, **variables})


def refused(fleet: Fleet, *arguments: str | Path) -> str:
    """The one line on an update that was not taken; the old bundle is still current, and works."""
    before = fleet.current
    done = fleet.update(*arguments)
    assert done.returncode != 0, done.stdout
    line = done.stderr.splitlines()[-1]
    assert line.startswith("edge-emotion: ")
    assert "Traceback" not in done.stderr
    assert "internal error" not in line
    assert fleet.current == before
    assert not list(fleet.releases.folder.glob(".incoming-*"))
    assert not list((fleet.releases.folder / "bundles").glob(".new-*"))
    return line


def test_a_device_takes_what_is_new_and_no_more(fleet: Fleet, bundles: list[Path]) -> None:
    looked = fleet.update("--check")
    assert "new: default version 2" in looked.stdout
    assert fleet.current[0] == 1
    done = fleet.update()
    assert done.returncode == 0, done.stderr
    assert "number 2." in fleet.current[1]
    again = fleet.update()
    assert "nothing new; release 2 is current" in again.stdout
    assert fleet.command("update", "--back").returncode == 0
    assert "number 1." in fleet.current[1]


def test_what_somebody_chose_here_stays_until_something_else_is_published(
    fleet: Fleet, bundles: list[Path]
) -> None:
    """What was gone back from, or replaced by hand, does not come by itself."""
    assert fleet.update().returncode == 0
    assert fleet.command("update", "--back").returncode == 0
    assert "nothing new; release 1 is current" in fleet.update().stdout
    assert "nothing new" in fleet.update("--check").stdout
    assert fleet.update("--again").returncode == 0
    assert "number 2." in fleet.current[1]
    assert fleet.command("update", bundles[0]).returncode == 0
    assert "nothing new" in fleet.update().stdout
    fleet.publish(bundles[2])
    assert fleet.update().returncode == 0
    assert "number 3." in fleet.current[1]


def test_a_transfer_that_is_cut_half_way(fleet: Fleet) -> None:
    (fleet.repository / ".half").touch()
    assert "broke off" in refused(fleet) or "half of it" in refused(fleet)
    (fleet.repository / ".half").unlink()
    assert fleet.update().returncode == 0, "it is brought at the next look"


def test_what_is_not_what_was_signed(fleet: Fleet) -> None:
    (fleet.repository / ".other").touch()
    assert "sent something else than what was signed" in refused(fleet)


def test_a_repository_that_has_expired(fleet: Fleet) -> None:
    fleet.publish(None, timestamp=0)
    assert "has expired" in refused(fleet)
    fleet.publish(None)
    assert fleet.update().returncode == 0, "renewed, it is taken"


def test_a_repository_of_before(fleet: Fleet, bundles: list[Path], tmp_path: Path) -> None:
    """Whoever holds the server shows what was signed once."""
    before = shutil.copytree(fleet.repository, tmp_path / "before")
    fleet.publish(bundles[2])
    assert fleet.update().returncode == 0
    shutil.rmtree(fleet.repository / "metadata")
    shutil.copytree(before / "metadata", fleet.repository / "metadata")
    shutil.copytree(before / "targets", fleet.repository / "targets", dirs_exist_ok=True)
    assert "went back to an older state" in refused(fleet)


def test_a_repository_of_another_key(fleet: Fleet, bundles: list[Path], tmp_path: Path) -> None:
    shutil.rmtree(fleet.repository / "metadata")
    make_repository(fleet.repository, tmp_path / "theirs", passphrase=False)
    publish(fleet.repository, tmp_path / "theirs", bundles[2], "stable", {**DAYS})
    publish(fleet.repository, tmp_path / "theirs", None, "stable", {**DAYS})
    assert "is not signed by the keys that its pinned root names" in refused(fleet)


def test_a_repository_whose_online_key_was_replaced_is_followed(fleet: Fleet) -> None:
    for name in ("online", "online.pub"):
        (fleet.keys / name).unlink()
    make_key(fleet.keys / "online", "test", passphrase=False)
    assert "timestamp: another key" in fleet.publish(None).lines
    done = fleet.update()
    assert done.returncode == 0, done.stderr
    assert "number 2." in fleet.current[1]


def test_a_repository_whose_root_key_was_replaced_is_followed(fleet: Fleet) -> None:
    """From the first root, which is what is pinned, and from one that was seen."""
    old = fleet.keys.parent / "old"
    for _ in range(2):
        for name in ("root", "root.pub"):
            (fleet.keys / name).replace(fleet.keys.parent / name.replace("root", "old"))
        make_key(fleet.keys / "root", "test", passphrase=False)
        done = publish(fleet.repository, fleet.keys, None, "stable", {**DAYS}, old_root=old)
        assert done.lines == ("root: another key",)
        assert fleet.update("--check").returncode == 0
    shutil.rmtree(fleet.releases.folder / "repository")
    done = fleet.update()
    assert done.returncode == 0, done.stderr
    assert "number 2." in fleet.current[1]
    # It signs alone from now on.
    for name in ("online", "online.pub"):
        (fleet.keys / name).unlink()
    make_key(fleet.keys / "online", "test", passphrase=False)
    fleet.publish(None)
    assert "nothing new" in fleet.update().stdout


def test_a_publication_that_was_cut_short_is_mended_by_the_next(
    fleet: Fleet, bundles: list[Path], tmp_path: Path
) -> None:
    """Of another key, and of a bundle: what is written last was not."""
    metadata = fleet.repository / "metadata"

    def publish_without(bundle: Path, *roles: str) -> None:
        before = Path(shutil.copytree(metadata, tmp_path / "before", dirs_exist_ok=True))
        fleet.publish(bundle)
        for file in [file for role in roles for file in metadata.glob(f"*{role}.json")]:
            file.unlink()
        for file in [file for role in roles for file in before.glob(f"*{role}.json")]:
            shutil.copy(file, metadata)

    for name in ("online", "online.pub"):
        (fleet.keys / name).unlink()
    make_key(fleet.keys / "online", "test", passphrase=False)
    publish_without(bundles[2], "snapshot", "timestamp")
    assert "is not signed by the keys" in refused(fleet)
    fleet.publish(None)
    assert fleet.update().returncode == 0
    assert "number 3." in fleet.current[1]
    publish_without(bundles[0], "timestamp")
    fleet.publish(None)
    assert fleet.update().returncode == 0
    assert "number 1." in fleet.current[1]


def test_no_repository_and_none_that_answers(fleet: Fleet) -> None:
    assert "has no channel 'beta'" in refused(fleet, "--repository-channel", "beta")
    dead = ("--repository", "http://127.0.0.1:9/")
    assert "cannot be reached, or is too slow" in refused(fleet, *dead)
    assert "has not all that a repository has" in refused(
        fleet, "--repository", f"{fleet.url}/nowhere"
    )
    assert "http://... or https://" in refused(fleet, "--repository", "ftp://127.0.0.1/")
    (fleet.home / "root.json").unlink()
    assert "No such file" in refused(fleet)


def test_a_bundle_that_does_not_work_is_tried_once(fleet: Fleet, broken_bundle: Path) -> None:
    fleet.publish(broken_bundle)
    assert "the release does not work: FAULT bundle" in refused(fleet)
    assert "was tried here and did not work" in refused(fleet)
    assert "does not work: FAULT bundle" in refused(fleet, "--again")


def test_a_bundle_that_is_not_signed_where_a_key_is_pinned(
    fleet: Fleet, bundles: list[Path], tmp_path: Path
) -> None:
    make_key(tmp_path / "key", "test", passphrase=False)
    pinned = ("--bundle-key", tmp_path / "key.pub")
    assert "is not signed" in refused(fleet, *pinned)
    bundle = Path(shutil.copytree(bundles[2], tmp_path / "signed"))
    sign(bundle, tmp_path / "key", counter=7)
    fleet.publish(bundle)
    assert fleet.update(*pinned).returncode == 0
    sign(bundle, tmp_path / "key", counter=6)
    fleet.publish(bundle)
    assert "is older (counter 6)" in refused(fleet, *pinned)
    assert fleet.update(*pinned, "--allow-downgrade").returncode == 0


def test_what_is_wrong_around_a_bundle_is_not_held_against_it(fleet: Fleet) -> None:
    """A command that is misspelt, one that fails, settings that nobody takes."""
    assert "edge-nobody: No such file" in refused(fleet, "--apply-command", "edge-nobody")
    assert "ended with code 1" in refused(fleet, "--apply-command", "sh -c 'exit 1'")
    fleet.environment["EDGE_EMOTION_THREADS"] = "none"
    refused(fleet)
    del fleet.environment["EDGE_EMOTION_THREADS"]
    assert fleet.update().returncode == 0
    assert "number 2." in fleet.current[1]


def test_a_lower_counter_that_was_asked_for_is_taken_by_what_runs(
    fleet: Fleet, bundles: list[Path], tmp_path: Path
) -> None:
    """Which is told while it is switched, and refuses what is below the least counter."""
    make_key(tmp_path / "key", "test", passphrase=False)
    pinned = ("--bundle-key", tmp_path / "key.pub")
    reads = f"{sys.executable} -m edge_runtime.cli doctor --bundle current --bundle-key {pinned[1]}"

    def take(counter: int, *arguments: str, told: str = reads) -> int:
        bundle = Path(shutil.copytree(bundles[0], tmp_path / "signed", dirs_exist_ok=True))
        sign(bundle, tmp_path / "key", counter)
        command = ("update", bundle, *pinned, "--apply-command", told, *arguments)
        return fleet.command(*command).returncode

    def back(told: str) -> int:
        return fleet.command("update", "--back", *pinned, "--apply-command", told).returncode

    assert take(7) == 0
    assert take(6) != 0
    assert take(6, "--allow-downgrade", told="sh -c 'exit 1'") != 0
    assert fleet.releases.memory.floor == 7
    assert take(6, "--allow-downgrade") == 0
    assert fleet.releases.memory.floor == 6
    assert take(9) == 0
    assert back("sh -c 'exit 1'") != 0
    assert fleet.releases.memory.floor == 9
    assert back(reads) == 0
    assert fleet.releases.memory.floor == 6
    assert fleet.releases.about(fleet.releases.current).counter == 6


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk(fleet: Fleet, small_disk: Callable[[int], Path]) -> None:
    """Room for the bundle that is there, and not for another."""
    disk = small_disk(ROOM)
    shutil.copytree(fleet.home / "data", disk / "data", symlinks=True)
    fleet.environment["XDG_DATA_HOME"] = str(disk / "data")
    assert "No space left on device" in refused(fleet)
    assert fleet.command("doctor", "--bundle", "current").returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_of_the_repository(
    fleet: Fleet, bundles: list[Path], small_disk: Callable[[int], Path]
) -> None:
    """Room for the bundle to be published, and not for what names it."""
    disk = small_disk(2 * ROOM)
    repository = Path(shutil.copytree(fleet.repository, disk / "repository"))
    archive = max(file.stat().st_size for file in repository.rglob("*.bundle.zip"))
    with (disk / "filler").open("wb", buffering=0) as filler:
        filler.write(bytes(shutil.disk_usage(disk).free - archive - archive % 4096))
    before = {path: path.read_bytes() for path in repository.rglob("*.json")}
    with pytest.raises(OSError, match="No space left on device"):
        publish(repository, fleet.keys, bundles[2], "stable", DAYS)
    assert {path: path.read_bytes() for path in repository.rglob("*.json")} == before
    (disk / "filler").unlink()
    done = publish(repository, fleet.keys, bundles[2], "stable", DAYS)
    assert "stable: default version 3" in done.lines[0]


def test_two_at_a_time(fleet: Fleet) -> None:
    left = fleet.releases.folder / ".incoming-killed"
    left.mkdir()
    with fleet.releases.locked():
        assert not left.exists()
        assert "another delivery to this device is under way" in refused(fleet)


def test_what_runs_hears_of_it_and_what_does_not_go_on_rolls_it_back(fleet: Fleet) -> None:
    settings, errors = fleet.home / "config.toml", fleet.home / "errors"
    quiet = "sh -c 'while sleep 0.1; do head -c 3200 /dev/zero; done'"
    settings.write_text(
        f'bundle = "current"\nmic_command = "{quiet}"\nrate = 16000\nout = "none"\n'
    )
    with errors.open("w") as err:
        running = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime.cli", "run", "--config", str(settings)],
            stdin=subprocess.DEVNULL,
            stderr=err,
            env=fleet.environment,
            start_new_session=True,
        )
    try:
        wait_until(lambda: len(children(running.pid)) > 0)
        time.sleep(0.5)  # what it listens to is started before the loop takes signals
        deaf = ("--apply-command", "sh -c 'echo nobody hears; exit 1'")
        assert refused(fleet, *deaf).endswith("ended with code 1: nobody hears")
        told = ("--again", "--apply-command", f"kill -HUP {running.pid}")
        done = fleet.update(*told)
        assert done.returncode == 0, done.stderr
        assert "number 2." in fleet.current[1]
        wait_until(lambda: "settings were read again, bundle default" in errors.read_text())
        assert running.poll() is None
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(PATIENCE)


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_what_nobody_needs_any_more_is_removed(fleet: Fleet, bundles: list[Path]) -> None:
    """By the repository: what was published before the last; by the device: the same."""
    fleet.publish(bundles[2])
    assert len(list((fleet.repository / "targets").rglob("*.bundle.zip"))) == 2
    names = {file.name for file in (fleet.repository / "metadata").iterdir()}
    newest = max(int(n.partition(".")[0]) for n in names if n.endswith(".targets.json"))
    assert f"{newest - 2}.targets.json" not in names
    assert "1.root.json" in names
    assert fleet.update().returncode == 0
    fleet.publish(bundles[0])
    assert fleet.update().returncode == 0
    assert fleet.releases.numbers() == [2, 3]
    assert len(list((fleet.releases.folder / "bundles").iterdir())) == 2
    state = json.loads((fleet.releases.folder / "releases.json").read_text())
    assert state.keys() == {"floor", "refused", "taken"}
    assert (state["floor"], state["refused"]) == (0, {})
