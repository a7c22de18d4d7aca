"""Releases on this device: folders side by side, and one link that says which of them is current.

    releases/current -> 4            switched by renaming a new link over it, at once
    releases/4/bundle -> ../bundles/3f0c...
    releases/4/program -> ../programs/91ab...   an environment with its wheel, if one was delivered
    releases/bundles/, programs/     by content: what two releases share is there once
    releases/releases.json           the least counter of a bundle, and what failed here

Whatever is cut off leaves `current` as it was; what it left lying is removed by the next delivery.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_runtime.bundle import CURRENT
from edge_runtime.console import writing
from edge_runtime.errors import EdgeError
from edge_runtime.system import PROGRAMS, RELEASES, releases_folder
from edge_runtime.untrusted import parse_json, read_regular

BUNDLES = "bundles"
PINNED_KEY, PINNED_ROOT = PINS = ("bundle.pub", "root.json")
"""Files of a release: whose bundles and whose repository count, unless settings say it."""
LOCK = "lock"
INCOMING = ".incoming-"  # begins the name of a folder of what arrives
_ABOUT = "release.json"
_MOST_BYTES = 1_000_000  # of the files here


class UpdateError(EdgeError):
    """A delivery that was not taken; what ran before still runs."""


class NotWorkingError(UpdateError):
    """What was delivered ran on this device, and did not work: it would not the next time."""


@dataclass(frozen=True)
class About:
    """What is known of a release."""

    bundle: str
    """Name of its bundle."""
    counter: int = 0
    """That was signed with it; 0 where it is not signed."""
    source: str = ""
    """Where it came from."""
    sha256: str = ""
    """Of the archive that came, hexadecimal."""


@dataclass(frozen=True)
class Memory:
    """What is remembered of all deliveries."""

    floor: int = 0
    """The highest counter of a signed bundle that worked here."""
    refused: dict[str, str] = field(default_factory=dict)
    """Why, by the sha256 of an archive that was tried, and did not work here."""
    taken: str = ""
    """The sha256 of the last archive that was taken from a repository."""


class Releases:
    """The releases in a folder, by default that of this device; `prepare` makes it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or releases_folder()

    @property
    def current(self) -> int:
        """The number of the current release; 0 where there is none."""
        try:
            name = (self.folder / CURRENT).readlink().name
        except OSError:
            return 0
        return int(name) if name.isdigit() else 0

    def numbers(self) -> list[int]:
        """Of all releases, in order."""
        with suppress(FileNotFoundError):
            return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdigit())
        return []

    @property
    def before(self) -> int:
        """The release before the current one; 0 where there is none."""
        return max((number for number in self.numbers() if number < self.current), default=0)

    def place(self, number: int) -> Path:
        """The folder of a release."""
        return self.folder / str(number)

    def about(self, number: int) -> About:
        """What is known of a release; UpdateError where that cannot be read."""
        file = self.place(number) / _ABOUT
        try:
            return About(**self._read(file))
        except TypeError:
            raise UpdateError(f"{file} is of another version of this program") from None

    def program(self, number: int) -> Path | None:
        """The environment that a release brought; None where it runs in another."""
        link = self.place(number) / "program"
        return link.resolve() if link.is_symlink() else None

    def prepare(self) -> None:
        """Make what a delivery needs to be here."""
        with writing(self.folder):
            # What is root's is run by a service of the machine, which is somebody else.
            mode = 0o755 if os.getuid() == 0 else 0o700
            self.folder.mkdir(parents=True, exist_ok=True, mode=mode)
            (self.folder / BUNDLES).mkdir(exist_ok=True)
        if not (self.folder / RELEASES).exists():
            self._remember(Memory())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else delivers meanwhile; UpdateError where somebody does."""
        with ExitStack() as stack:
            if os.getuid() == 0:  # see `prepare`
                stack.callback(os.umask, os.umask(0o022))
            self.prepare()
            with writing(self.folder / LOCK):
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(self.folder / LOCK, flags, 0o600)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UpdateError("another delivery to this device is under way") from None
            for left in self.folder.glob(f"{INCOMING}*"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
            yield

    def pinned(self, name: str) -> Path | None:
        """The file of that name, in `PINS`, that the current release holds; None without."""
        file = self.folder / CURRENT / name
        return file if file.is_file() else None

    def add(
        self, bundle: Path, program: Path | None, about: About, pins: Mapping[str, Path]
    ) -> int:
        """A new release, not current yet; its number.

        `pins` are files by name, in `PINS`; see `pin`.
        """
        number = max(self.numbers(), default=0) + 1
        place = self.place(number)
        with writing(place):
            place.mkdir()
            for name, target in (("bundle", bundle), ("program", program)):
                if target is not None:
                    (place / name).symlink_to(Path("..", target.parent.name, target.name))
            self.pin(number, pins)
            (place / _ABOUT).write_text(json.dumps(asdict(about)), encoding="utf-8")
        return number

    def pin(self, number: int, pins: Mapping[str, Path]) -> None:
        """Pin with a release what is pinned with the current one, but for `pins`: files by name.

        With each release, so that one switch is of both: at no moment does a key meet a bundle that
        it did not come with.
        """
        for name in PINS:
            file, place = pins.get(name) or self.pinned(name), self.place(number) / name
            with writing(place):
                if file is None:
                    place.unlink(missing_ok=True)
                else:
                    shutil.copyfile(file, place)

    def unpin(self, name: str) -> None:
        """The file of that name, in `PINS`, counts no longer. UpdateError where none does."""
        file = self.pinned(name)
        if file is None:
            raise UpdateError(f"no {name} is pinned with what was delivered here")
        with writing(file):
            file.unlink()

    def switch(self, number: int) -> None:
        """Make a release the current one, at once; 0 for none."""
        link, fresh = self.folder / CURRENT, self.folder / f".{CURRENT}"
        if not number:
            link.unlink(missing_ok=True)
            return
        # What the link leads to must be on the disk before the link is.
        os.sync()
        with writing(link):
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(str(number))
            fresh.replace(link)
        os.sync()

    def prune(self, program: Path | None = None) -> None:
        """Remove all but the current release and that before it, and what none of them needs.

        `program` is kept, too. Nothing that cannot be removed is an error: the next delivery tries
        again.
        """
        kept = {self.current, self.before}
        for number in self.numbers():
            if number not in kept:
                shutil.rmtree(self.place(number), ignore_errors=True)
        for kind, name in ((BUNDLES, "bundle"), (PROGRAMS, "program")):
            needed = {(self.place(number) / name).resolve() for number in kept if number}
            needed |= {program.resolve()} if program else set()
            with suppress(FileNotFoundError):
                for path in (self.folder / kind).iterdir():
                    if path.resolve() not in needed:
                        shutil.rmtree(path, ignore_errors=True)

    @property
    def memory(self) -> Memory:
        """What is remembered."""
        file = self.folder / RELEASES
        if not file.exists():
            return Memory()
        raw = self._read(file)
        floor, refused, taken = raw.get("floor", 0), raw.get("refused", {}), raw.get("taken", "")
        kinds = isinstance(floor, int), isinstance(refused, dict), isinstance(taken, str)
        if not all(kinds):
            raise UpdateError(f"{file} is damaged; where nobody meddled with it, delete it")
        return Memory(floor, refused, taken)

    def remember_floor(self, counter: int) -> None:
        """From now on no signed bundle of a lower counter is taken."""
        self._remember(replace(self.memory, floor=counter))

    def remember_refused(self, sha256: str, why: str) -> None:
        """An archive did not work here; only the last one is remembered."""
        self._remember(replace(self.memory, refused={sha256: why}))

    def remember_taken(self, sha256: str) -> None:
        """An archive of a repository was taken; only the last one is remembered."""
        self._remember(replace(self.memory, taken=sha256))

    def _remember(self, memory: Memory) -> None:
        file = self.folder / RELEASES
        fresh = file.with_name(f".{file.name}")
        with writing(file):
            with fresh.open("w", encoding="utf-8") as stream:
                json.dump(asdict(memory), stream)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(file)

    @staticmethod
    def _read(file: Path) -> dict[str, Any]:
        try:
            raw = parse_json(read_regular(file, _MOST_BYTES))
        except (OSError, ValueError) as error:
            raise UpdateError(f"{file} cannot be read: {error}") from None
        if not isinstance(raw, dict):
            raise UpdateError(f"{file} is damaged; where nobody meddled with it, delete it")
        return raw
