"""A static update repository in the format of TUF: folders that any web server can serve.

    REPO/metadata/N.root.json      whose keys count; N.targets.json, N.snapshot.json: what there is
    REPO/metadata/timestamp.json   the newest state; renewed every few days, or devices stop
    REPO/targets/CHANNEL/HASH.bundle.zip

Three keys: `root` names the others and is best kept offline, `targets` says what is published,
`online` dates it and is all that a nightly renewal needs. All is signed before anything is written,
and timestamp.json comes last: a device that asks meanwhile sees the state before.
"""

from __future__ import annotations

import copy
import fcntl
import getpass
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)
from securesystemslib.exceptions import StorageError
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from conversion.deliver import DAYS
from conversion.deliver.keys import make_key
from conversion.deliver.pack import pack
from conversion.errors import ConversionError
from edge_runtime.console import writing
from edge_runtime.signature import STATEMENT
from edge_runtime.untrusted import parse_json
from edge_runtime.update.repository import CUSTOM, METADATA, TARGETS, target_name
from training.output import at_once

KEYS = {Root.type: "root", Targets.type: "targets", Snapshot.type: "online"}
"""File of the key by role; the timestamp has that of the snapshot."""
KEYS[Timestamp.type] = KEYS[Snapshot.type]
_LOCK = ".lock"
_RENEWED = 1 / 3  # what has less of its time left is signed again, where its key is here


@dataclass(frozen=True)
class Published:
    """What a device sees now."""

    lines: tuple[str, ...]
    """What was done, and what will have to be."""
    expires: datetime
    """From then on devices refuse the repository, unless it is renewed."""


def make_repository(folder: Path, keys: Path, passphrase: bool) -> None:
    """A repository with nothing in it, and those of its keys that are not there.

    Raises ConversionError where a repository is there, or a key cannot be opened, and OSError.
    """
    metadata = folder / METADATA
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if any(metadata.glob("*.json")):
            raise ConversionError(f"{folder} is a repository already")
        for name in sorted(set(KEYS.values())):
            if not (keys / name).exists():
                # What a nightly job renews with has nobody to ask.
                asked = passphrase and name != KEYS["timestamp"]
                make_key(keys / name, f"edge-emotion {name}", asked)
        signers = _Signers(keys)
        root = Root(consistent_snapshot=True)
        for role in KEYS:
            root.add_key(signers.get(role).public_key, role)
        empty = (root, Targets(), Snapshot(), Timestamp())
        state = _State({signed.type: Metadata(signed) for signed in empty}, metadata, signers)
        for role in KEYS:
            state.roles[role].signed.version = 0
            state.touch(role)
        state.sign(DAYS)
        state.write()


def publish(
    folder: Path,
    keys: Path,
    bundle: Path | None,
    channel: str,
    days: dict[str, int],
    old_root: Path | None = None,
) -> Published:
    """Put a bundle into a channel, or none, and renew what would soon expire.

    `days` is for how long the role of that name counts; `old_root` is the root key of before, where
    another one is in `keys`. What an earlier run left half done is
    mended. Raises ConversionError, BundleError for what no device would load, and OSError; but for
    the last, nothing was written then.
    """
    with _alone(folder), tempfile.TemporaryDirectory() as work:
        state = _State.read(folder / METADATA, _Signers(keys))
        state.mend()
        lines = state.replace_keys(old_root)
        archive = Path(work, "bundle.zip")
        if bundle is not None:
            lines.append(_put(state, bundle, archive, channel))
        lines += state.renew()
        state.touch(Timestamp.type)
        state.sign(days)
        if bundle is not None:
            place = _place(folder, state.targets[target_name(channel)])
            if not place.is_file():
                with at_once(place) as new:
                    shutil.copyfile(archive, new)
        expires = state.write()
        _forget(folder, state)
    return Published(tuple(lines), expires)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else writes there meanwhile. Raises ConversionError where somebody does."""
    try:
        lock = (folder / _LOCK).open("ab")
    except FileNotFoundError:
        raise _none(folder, "there is no such folder") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConversionError(f"{folder}: somebody else publishes there just now") from None
        yield


def _none(folder: Path, why: object) -> ConversionError:
    return ConversionError(
        f"{folder} is no update repository; make one: python -m conversion publish --init ({why})"
    )


class _Signers:
    """The private keys in a folder, each opened once, where it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: dict[str, CryptoSigner] = {}

    def has(self, role: str) -> bool:
        """Whether the key of a role is here."""
        return (self._folder / KEYS[role]).is_file()

    def public(self, role: str) -> SSlibKey | None:
        """The public key of a role, for which no passphrase is asked; None where it is not here."""
        file = self._folder / f"{KEYS[role]}.pub"
        if not file.is_file():
            return None
        try:
            return SSlibKey.from_crypto(load_ssh_public_key(file.read_bytes()))
        except ValueError as error:
            raise ConversionError(f"{file} is no public key: {error}") from None

    def get(self, role: str) -> CryptoSigner:
        """What signs for a role. Raises ConversionError."""
        name = KEYS[role]
        if name not in self._opened:
            self._opened[name] = self.open(self._folder / name)
        return self._opened[name]

    @staticmethod
    def open(file: Path) -> CryptoSigner:
        """What signs by the private key in a file. Raises ConversionError."""
        try:
            content = file.read_bytes()
        except OSError as error:
            raise ConversionError(f"the key {file}: {error.strerror}") from None
        try:
            try:
                key: Any = load_ssh_private_key(content, None)
            except (TypeError, ValueError) as error:
                if "assword" not in str(error):
                    raise
                key = load_ssh_private_key(content, getpass.getpass(f"{file}: ").encode())
        except (TypeError, ValueError) as error:
            raise ConversionError(f"the key {file} cannot be opened: {error}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise ConversionError(f"{file} is no private Ed25519 key: python -m conversion key")
        return CryptoSigner(key)


class _State:
    """The four roles of a repository, and which of them are to be signed again."""

    def __init__(self, roles: dict[str, Metadata[Any]], folder: Path, signers: _Signers) -> None:
        self.roles, self._folder, self.signers = roles, folder, signers
        self._touched: set[str] = set()
        self._old_root: CryptoSigner | None = None

    @classmethod
    def read(cls, folder: Path, signers: _Signers) -> _State:
        """The newest of each role. Raises ConversionError where there is no repository."""
        roles: dict[str, Metadata[Any]] = {}
        try:
            for role in KEYS:
                if role == Timestamp.type:
                    file = folder / "timestamp.json"
                else:
                    file = max(folder.glob(f"*.{role}.json"), key=_version_of)
                roles[role] = Metadata.from_file(str(file))
        except (ValueError, RepositoryError, StorageError, DeserializationError) as error:
            raise _none(folder.parent, error) from None
        return cls(roles, folder, signers)

    @property
    def targets(self) -> dict[str, TargetFile]:
        """What is published, by name."""
        return dict(self.roles[Targets.type].signed.targets)

    def touch(self, role: str) -> None:
        """A role is to be signed again, and what names its version."""
        self._touched.add(role)
        if role == Targets.type:
            self.touch(Snapshot.type)
        if role == Snapshot.type:
            self.touch(Timestamp.type)

    def mend(self) -> None:
        """Touch what a run that was cut short left unsigned, or signed and not named.

        Raises ConversionError where that is the root, by which nothing else counts.
        """
        for role in KEYS:
            try:
                self.roles[Root.type].verify_delegate(role, self.roles[role])
            except UnsignedMetadataError:
                if role == Root.type:
                    name = f"{self.roles[role].signed.version}.root.json"
                    raise ConversionError(
                        f"{self._folder / name} is not signed by the key that it names, and no "
                        "device takes it: remove it"
                    ) from None
                self.touch(role)
        named = self.roles[Snapshot.type].signed.meta["targets.json"]
        if named.version != self.roles[Targets.type].signed.version:
            self.touch(Snapshot.type)

    def replace_keys(self, old_root: Path | None) -> list[str]:
        """Let the root name the keys that are here, where these are others; what was done.

        The root's own only by its private key of before, `old_root`. Raises ConversionError.
        """
        root: Root = self.roles[Root.type].signed
        lines = []
        for role in KEYS:
            public, known = self.signers.public(role), root.roles[role].keyids
            if role == Root.type:
                public = self._new_root(old_root) if old_root else None
            if public is not None and public.keyid not in known:
                for keyid in list(known):
                    root.revoke_key(keyid, role)
                root.add_key(public, role)
                self.touch(Root.type)
                self.touch(role)
                lines.append(f"{role}: another key")
        return lines

    def _new_root(self, old_root: Path) -> SSlibKey:
        """The root key that is here; the one before, `old_root`, signs the next root as well."""
        self._old_root = self.signers.open(old_root)
        known: list[str] = self.roles[Root.type].signed.roles[Root.type].keyids
        public = self.signers.get(Root.type).public_key
        if self._old_root.public_key.keyid not in known or public.keyid in known:
            raise ConversionError(
                f"{old_root} is to be the root key that devices know, and {KEYS[Root.type]} in the "
                "folder of keys another one"
            )
        return public

    def renew(self) -> list[str]:
        """Touch what will soon expire; a line on each whose key is elsewhere."""
        lines = []
        now = datetime.now(UTC)
        for role in (Root.type, Targets.type, Snapshot.type):
            expires = self.roles[role].signed.expires
            if role in self._touched or expires - now > DAYS[role] * _RENEWED * timedelta(days=1):
                continue
            if self.signers.has(role):
                self.touch(role)
            else:
                lines.append(
                    f"warning: {role} expires on {expires:%Y-%m-%d}, and its key "
                    f"({KEYS[role]}) is not here to renew it"
                )
        return lines

    def sign(self, days: dict[str, int]) -> None:
        """Sign what was touched, for so many days by role. Raises ConversionError; see `write`."""
        known: Metadata[Root] = copy.deepcopy(self.roles[Root.type])
        touched = [role for role in KEYS if role in self._touched]
        signers = {role: self.signers.get(role) for role in touched}
        expires = {role: _expiry(role, days[role]) for role in touched}
        for role in touched:
            signed = self.roles[role].signed
            signed.version, signed.expires = signed.version + 1, expires[role]
        # Each names the version of the one before.
        snapshot, timestamp = self.roles[Snapshot.type].signed, self.roles[Timestamp.type].signed
        snapshot.meta["targets.json"] = MetaFile(self.roles[Targets.type].signed.version)
        timestamp.snapshot_meta = MetaFile(snapshot.version)
        for role in touched:
            self.roles[role].sign(signers[role])
            if role == Root.type and self._old_root is not None:
                self.roles[role].sign(self._old_root, append=True)
            self._check(role, known)

    def _check(self, role: str, known: Metadata[Root]) -> None:
        """Raise ConversionError where devices would not take what was signed."""
        root = self.roles[Root.type]
        try:
            root.verify_delegate(role, self.roles[role])
            if role == Root.type:  # who may sign the next root, the one before says
                known.verify_delegate(role, root)
        except UnsignedMetadataError:
            more = "--old-root, the one of before" if role == Root.type else "its .pub beside it"
            raise ConversionError(
                f"the key {KEYS[role]} is not the one that devices know; to replace it: {more}"
            ) from None

    def write(self) -> datetime:
        """Write what was signed, nothing where the disk is full; when the first role expires."""
        with ExitStack() as stack:
            # What is made last takes its place first: the timestamp comes last.
            for role in reversed(KEYS):
                if role in self._touched:
                    version = self.roles[role].signed.version
                    name = f"{'' if role == Timestamp.type else f'{version}.'}{role}.json"
                    new = stack.enter_context(at_once(self._folder / name))
                    new.write_bytes(self.roles[role].to_bytes())
        expires: list[datetime] = [metadata.signed.expires for metadata in self.roles.values()]
        return min(expires)

    def files(self) -> Iterator[str]:
        """The names of metadata that devices may still ask for: these versions and those before."""
        for role in (Targets.type, Snapshot.type):
            version = self.roles[role].signed.version
            yield from (f"{number}.{role}.json" for number in (version, version - 1))


def _put(state: _State, bundle: Path, archive: Path, channel: str) -> str:
    """Pack a bundle into `archive` and put it into a channel; a line on it."""
    name = target_name(channel)
    if not re.fullmatch("[A-Za-z0-9-]+", channel):
        raise ConversionError(f"a channel is a word of letters, digits and -, not {channel!r}")
    loaded = pack(bundle, archive)
    target = TargetFile.from_file(name, str(archive), ["sha256"])
    before = state.targets.get(name)
    known = before.custom[CUSTOM]["version"] if before and before.custom else 0
    if before is not None and before.hashes == target.hashes:
        return f"{channel}: {loaded.manifest.name} is there already, version {known}"
    target.unrecognized_fields["custom"] = {
        CUSTOM: {
            "bundle": loaded.manifest.name,
            "version": known + 1,
            "counter": _counter(bundle),
        }
    }
    state.roles[Targets.type].signed.targets[name] = target
    state.touch(Targets.type)
    return f"{channel}: {loaded.manifest.name} version {known + 1}, {target.length / 1e6:.1f} MB"


def _place(folder: Path, target: TargetFile) -> Path:
    """Where in a repository the archive of what is published is."""
    place = folder / TARGETS / target.path
    return place.with_name(f"{target.hashes['sha256']}.{place.name}")


def _counter(bundle: Path) -> int | None:
    """The counter that a bundle is signed with, for people; the device reads its own."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(parse_json((bundle / STATEMENT).read_bytes())["counter"])
    return None


def _forget(folder: Path, state: _State) -> None:
    """Remove what no device asks for any more: all but what is published, and was before."""
    metadata = folder / METADATA
    kept = set(state.files())
    for role in (Targets.type, Snapshot.type):
        for file in metadata.glob(f"*.{role}.json"):
            if file.name not in kept:
                file.unlink()
    needed = set()
    for file in metadata.glob(f"*.{Targets.type}.json"):
        old: Metadata[Targets] = Metadata.from_file(str(file))
        needed |= {_place(folder, target) for target in old.signed.targets.values()}
    for file in (folder / TARGETS).rglob("*.bundle.zip"):
        if file not in needed:
            file.unlink()


def _expiry(role: str, days: int) -> datetime:
    try:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    except OverflowError:
        raise ConversionError(f"--{role}-days {days} ends after the year 9999") from None


def _version_of(file: Path) -> int:
    number = file.name.partition(".")[0]
    return int(number) if number.isdigit() else 0
