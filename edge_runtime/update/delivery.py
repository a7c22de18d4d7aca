"""A bundle, with or without a program, becomes the current release, or changes nothing.

It is verified, written beside the others, and tried in a process of its own, before anything is
switched; whatever listens is told afterwards, and where it does not go on, all is switched back.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_runtime.bundle import MODEL_CARD, check_file, load_bundle, statement_of
from edge_runtime.bundle_files import BundleFiles, open_files
from edge_runtime.config import FILE_VARIABLE, PREFIX
from edge_runtime.console import writing
from edge_runtime.errors import BundleError, EdgeError
from edge_runtime.manifest import MANIFEST
from edge_runtime.signature import SIGNATURE, STATEMENT, Statement, Trust
from edge_runtime.update.releases import (
    BUNDLES,
    About,
    NotWorkingError,
    Releases,
    UpdateError,
)

_PATIENCE = 300.0  # seconds for a command of the new program: the slowest board, and then some
_ID = 16  # digits of a hash that name a bundle: those of a device are few
_FAULT = "FAULT"  # as doctor marks what does not work
_OPEN = 0o755  # mode of a bundle: who may come here, the folder of releases says
_WISHES = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # somebody's, and no fault of a release

Apply = Callable[[bool], None]
"""Makes what listens take the current release; told whether the program is another one, too.

Raises EdgeError where that does not go on."""


@dataclass(frozen=True)
class Wanted:
    """What is to become current."""

    archive: Path
    """The bundle: a .zip, or a folder."""
    source: str
    """Where it comes from, for people."""
    trust: Trust | None = None
    """Who must have signed it; None: anybody, or nobody."""
    program: Path | None = None
    """An environment that was installed for it; None: that of the current release, if any."""
    installed: bool = False
    """Whether `program` was installed anew, be it where one of that name had been."""
    pins: Mapping[str, Path] = field(default_factory=dict)
    """What is pinned with it; see `Releases.add`."""


def deliver(
    releases: Releases,
    wanted: Wanted,
    apply: Apply,
    tell: Callable[[str], None] = lambda step: None,
    confirm: Callable[[], None] = lambda: None,
) -> int:
    """Make `wanted` the current release of a device that is locked; its number.

    `tell` hears of each step; `confirm` is asked when everything is ready to be switched, and may
    raise. Raises EdgeError or OSError; then, as with any interrupt, what was current is current.
    """
    before = releases.current
    program = wanted.program or (releases.program(before) if before else None)
    releases.prune(program)
    number = 0
    try:
        tell("verifying")
        folder, about = _unpacked(releases, wanted)
        number = releases.add(folder, program, about, wanted.pins)
        tell("trying")
        try_out(releases.place(number), program, wanted.trust)
        confirm()
        tell("switching")
        _switched(releases, number, apply, wanted.installed)
    except BaseException:
        if number and releases.current != number:
            shutil.rmtree(releases.place(number), ignore_errors=True)
        releases.prune(wanted.program)
        raise
    releases.prune()
    return number


def go_back(releases: Releases, apply: Apply, trust: Trust | None) -> int:
    """Make the release before the current one current again; its number.

    `trust` is who must have signed its bundle, whatever the counter. What is pinned stays pinned.
    Raises EdgeError or OSError; then what was current is current.
    """
    number = releases.before
    if not number:
        raise UpdateError("there is no release to go back to")
    place, program = releases.place(number), releases.program(number)
    if trust is not None:
        _refuse_unsigned(place / "bundle", replace(trust, floor=0))
    try_out(place, program, trust)
    releases.pin(number, {})
    _switched(releases, number, apply)
    return number


def _refuse_unsigned(bundle: Path, trust: Trust) -> None:
    """Raise UpdateError for a bundle of before that no longer counts, and say what to do."""
    try:
        load_bundle(bundle, trust)
    except BundleError as error:
        raise UpdateError(
            f"{error}; to take the key back: edge-emotion update --unpin, where it came with a "
            "delivery, or bundle_key in the settings"
        ) from None


def try_out(release: Path, program: Path | None, trust: Trust | None) -> None:
    """Judge a second of noise by a release, and read the settings by it.

    Raises NotWorkingError where it does not judge, and UpdateError for what else is in the way.
    """
    python = [str(program / "bin" / "python"), "-I"] if program else [sys.executable, "-P"]
    command = [*python, "-m", "edge_runtime.cli"]
    bare = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    # What the settings ask for beside the bundle, a broker say, may be down, and the microphone is
    # somebody's: that is no reason.
    bare |= {FILE_VARIABLE: "", f"{PREFIX}STDIN": "1"}
    asked = [*command, "doctor", "--bundle", str(release / "bundle")]
    if trust is not None:
        asked += ["--bundle-key", str(trust.key), "--allow-downgrade"]  # the counter was looked at
    done = ended(asked, _PATIENCE, bare)
    if done.returncode:
        kind = UpdateError if -done.returncode in _WISHES else NotWorkingError
        raise kind(f"the release does not work: {_why(done)}")
    done = ended([*command, "config"], _PATIENCE)
    if done.returncode:
        raise UpdateError(f"the release does not take the settings: {_why(done)}")


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """Why a command of a release failed."""
    if done.returncode < 0:
        return f"it was ended by {signal.Signals(-done.returncode).name}"
    said = [line for line in done.stdout.splitlines() if line.startswith(_FAULT)]
    said = said or done.stderr.splitlines()[-1:] or [f"exit code {done.returncode}"]
    return " ".join(said[0].split())


def ended(
    command: list[str], patience: float, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a command said until it ended. UpdateError where it does not start, or end in time (s).

    `environment` is by default that of this process.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            timeout=patience,
            check=False,
        )
    except OSError as error:
        raise UpdateError(f"{command[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise UpdateError(f"{' '.join(command)} did not end in {patience:.0f} s") from None


def _switched(releases: Releases, number: int, apply: Apply, installed: bool = False) -> None:
    """Switch, and back where what listens does not go on; else its counter is the least one now.

    `installed` is whether its program is another one though it has the same name.
    """
    before, floor = releases.current, releases.memory.floor
    another = installed or releases.program(number) != (
        releases.program(before) if before else None
    )
    counter = releases.about(number).counter
    try:
        if 0 < counter < floor:  # what listens refuses it otherwise
            releases.remember_floor(counter)
        releases.switch(number)
        apply(another)
        if counter > floor:
            releases.remember_floor(counter)
    except BaseException as error:
        releases.switch(before)
        if releases.memory.floor != floor:
            releases.remember_floor(floor)
        if before:
            with suppress(EdgeError):
                apply(another)
        if isinstance(error, EdgeError):
            kind = NotWorkingError if isinstance(error, NotWorkingError) else UpdateError
            raise kind(f"rolled back: {error}") from None
        raise


def _unpacked(releases: Releases, wanted: Wanted) -> tuple[Path, About]:
    """The bundle, verified, as a folder of its own, and what is known of it."""
    files = open_files(wanted.archive)
    bundles = releases.folder / BUNDLES
    work: Path | None = None
    try:
        statement = statement_of(files, wanted.trust) if wanted.trust else None
        names = _named(statement, files, wanted.archive)
        with writing(bundles):
            work = Path(tempfile.mkdtemp(prefix=".new-", dir=bundles))
        work.chmod(_OPEN)
        name = _copied(files, names, work, statement)
        bundle = load_bundle(work, wanted.trust)
        place = bundles / name
        if _is_damaged(place, wanted.trust):  # by the same name, it was the same
            shutil.rmtree(place, ignore_errors=True)
            with writing(place):
                work.rename(place)
        place.chmod(_OPEN)  # one that was delivered before may have another mode
    finally:
        files.close()
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    counter = statement.counter if statement else 0
    return place, About(bundle.manifest.name, counter, wanted.source, _sha256(wanted.archive))


def _sha256(archive: Path) -> str:
    """Hash of an archive, hexadecimal; empty for a folder."""
    if archive.is_dir():
        return ""
    with archive.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _named(statement: Statement | None, files: BundleFiles, archive: Path) -> list[str]:
    """The files of a bundle: what was signed, or what its manifest names, and no other."""
    if statement is not None:
        return [*statement.files, STATEMENT, SIGNATURE]
    names = [MANIFEST, *load_bundle(archive).file_names()]
    return [*names, *filter(files.has, (MODEL_CARD, STATEMENT, SIGNATURE))]


def _copied(files: BundleFiles, names: list[str], folder: Path, statement: Statement | None) -> str:
    """Write the files of those names into `folder`; what the whole of them goes by."""
    digest = hashlib.sha256()
    for name in sorted(set(names)):
        content = files.read(name)
        if statement and name not in (STATEMENT, SIGNATURE):
            check_file(files, name, content, statement)
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        path = folder / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return digest.hexdigest()[:_ID]


def _is_damaged(place: Path, trust: Trust | None) -> bool:
    """Whether no bundle that is whole, and signed as it must be, is there."""
    try:
        load_bundle(place, trust)
    except BundleError:
        return True
    return False
