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
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.bundle import MODEL_CARD, check_file, load_bundle, statement_of
from edge_runtime.bundle_files import BundleFiles, open_files
from edge_runtime.config import FILE_VARIABLE, PREFIX
from edge_runtime.console import writing
from edge_runtime.errors import BundleError, EdgeError
from edge_runtime.manifest import MANIFEST
from edge_runtime.signature import SIGNATURE, STATEMENT, Statement, Trust
from edge_runtime.update.releases import BUNDLES, About, Releases, UpdateError

_PATIENCE = 300.0  # seconds for a command of the new program: the slowest board, and then some
_ID = 16  # digits of a hash that name a bundle: those of a device are few
_FAULT = "FAULT"  # as doctor marks what does not work

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
    sha256: str = ""
    """Of the archive, where that is known."""
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
        _switched(releases, number, apply)
        if about.counter:
            releases.remember_floor(about.counter)
    except BaseException:
        if number and releases.current != number:
            shutil.rmtree(releases.place(number), ignore_errors=True)
        releases.prune(wanted.program)
        raise
    releases.prune()
    return number


def go_back(releases: Releases, apply: Apply) -> int:
    """Make the release before the current one current again; its number. Raises EdgeError."""
    if not releases.before:
        raise UpdateError("there is no release to go back to")
    number = releases.before
    about = releases.about(number)
    _switched(releases, number, apply)
    if about.counter:
        releases.remember_floor(about.counter)
    return number


def try_out(release: Path, program: Path | None, trust: Trust | None) -> None:
    """Judge a second of noise by a release, and read the settings by it. Raises UpdateError."""
    python = [str(program / "bin" / "python"), "-I"] if program else [sys.executable, "-P"]
    command = [*python, "-m", "edge_runtime.cli"]
    bare = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    # What the settings ask for beside the bundle, a broker say, may be down, and the microphone is
    # somebody's: that is no reason.
    bare |= {FILE_VARIABLE: "", f"{PREFIX}STDIN": "1"}
    asked = [*command, "doctor", "--bundle", str(release / "bundle")]
    if trust is not None:
        asked += ["--bundle-key", str(trust.key), "--allow-downgrade"]  # the counter was looked at
    _run("the new release does not work", asked, bare)
    _run("the new release does not take the settings", [*command, "config"], dict(os.environ))


def _run(what: str, command: list[str], environment: dict[str, str]) -> None:
    done = ended(command, _PATIENCE, environment)
    if done.returncode < 0:
        raise UpdateError(f"{what}: it was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        said = [line for line in done.stdout.splitlines() if line.startswith(_FAULT)]
        said = said or done.stderr.splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise UpdateError(f"{what}: {' '.join(said[0].split())}")


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


def _switched(releases: Releases, number: int, apply: Apply) -> None:
    """Switch, and back where what listens does not go on."""
    before = releases.current
    another = releases.program(number) != (releases.program(before) if before else None)
    releases.switch(number)
    try:
        apply(another)
    except BaseException as error:
        releases.switch(before)
        if before:
            with suppress(EdgeError):
                apply(another)
        if isinstance(error, EdgeError):
            raise UpdateError(f"rolled back: {error}") from None
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
        name = _copied(files, names, work, statement)
        bundle = load_bundle(work, wanted.trust)
        place = bundles / name
        if _is_damaged(place):  # by the same name, it was the same
            shutil.rmtree(place, ignore_errors=True)
            with writing(place):
                work.rename(place)
    finally:
        files.close()
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    counter = statement.counter if statement else 0
    return place, About(bundle.manifest.name, counter, wanted.source, wanted.sha256)


def _named(statement: Statement | None, files: BundleFiles, archive: Path) -> list[str]:
    """The files of a bundle: what was signed, or what its manifest names, and no other."""
    if statement is not None:
        return [*statement.files, STATEMENT, SIGNATURE]
    names = [MANIFEST, *load_bundle(archive).file_names()]
    for name in (MODEL_CARD, STATEMENT, SIGNATURE):
        with suppress(BundleError):
            files.read(name)
            names.append(name)
    return names


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


def _is_damaged(place: Path) -> bool:
    """Whether no bundle that is whole is there."""
    try:
        load_bundle(place)
    except BundleError:
        return True
    return False
