"""What `python -m conversion publish` cannot finish, it does not begin."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("tuf", reason="pip install -e '.[deliver]'")

from conversion.deliver import DAYS
from conversion.deliver.keys import keygen, make_key
from conversion.deliver.repository import make_repository, publish
from conversion.errors import ConversionError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    make_repository(tmp_path / "repository", tmp_path / "keys", passphrase=False)
    return tmp_path / "repository"


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_online(keys: Path) -> dict[str, int]:
    (keys / "online").unlink()
    return DAYS


def with_a_passphrase(keys: Path) -> dict[str, int]:
    """Which is mistyped."""
    keygen("-q", "-p", "-P", "", "-N", "secret", "-f", keys / "online")
    return DAYS


def without_a_public_key(keys: Path) -> dict[str, int]:
    """Of a key that is another one."""
    for name in ("online", "online.pub"):
        (keys / name).unlink()
    make_key(keys / "online", "test", passphrase=False)
    (keys / "online.pub").unlink()
    return DAYS


def with_another_root(keys: Path) -> dict[str, int]:
    """And with something for it to sign."""
    for name in ("root", "root.pub", "online", "online.pub"):
        (keys / name).unlink()
    make_key(keys / "root", "test", passphrase=False)
    make_key(keys / "online", "test", passphrase=False)
    return DAYS


def for_ever(keys: Path) -> dict[str, int]:
    return {**DAYS, "timestamp": 4_000_000}


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (without_online, "the key .*online: No such file"),
        (with_a_passphrase, "the key .*online cannot be opened"),
        (without_a_public_key, "the key online is not the one that devices know.*its .pub"),
        (with_another_root, "the key root is not the one that devices know.*--old-root"),
        (for_ever, "--timestamp-days 4000000 ends after the year 9999"),
    ],
)
def test_nothing_is_written_where_not_all_can_be_signed(
    repository: Path,
    bundle_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], dict[str, int]],
    line: str,
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: "mistyped")
    before = files(repository)
    days = spoil(repository.parent / "keys")
    with pytest.raises(ConversionError, match=line):
        publish(repository, repository.parent / "keys", bundle_path, "stable", days)
    assert files(repository) == before


def test_two_at_a_time(repository: Path) -> None:
    with (repository / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConversionError, match="somebody else publishes there just now"):
            publish(repository, repository.parent / "keys", None, "stable", DAYS)
    publish(repository, repository.parent / "keys", None, "stable", DAYS)


def test_a_repository_that_could_not_be_made_is_made_the_next_time(tmp_path: Path) -> None:
    """A full disk left a folder without a file."""
    keys, folder = tmp_path / "keys", tmp_path / "repository"
    keys.mkdir()
    (folder / "metadata").mkdir(parents=True)
    (keys / "targets").write_text("no key")
    with pytest.raises(ConversionError, match=r"the key .*targets cannot be opened"):
        make_repository(folder, keys, passphrase=False)
    with pytest.raises(ConversionError, match="is no update repository"):
        publish(folder, keys, None, "stable", DAYS)
    (keys / "targets").unlink()
    make_repository(folder, keys, passphrase=False)
    with pytest.raises(ConversionError, match="is a repository already"):
        make_repository(folder, keys, passphrase=False)
    publish(folder, keys, None, "stable", DAYS)
    with pytest.raises(ConversionError, match="is no update repository"):
        publish(tmp_path / "nowhere", keys, None, "stable", DAYS)


def test_an_archive_that_was_lost_is_put_there_again(repository: Path, bundle_path: Path) -> None:
    keys = repository.parent / "keys"
    publish(repository, keys, bundle_path, "stable", DAYS)
    (archive,) = repository.rglob("*.bundle.zip")
    content = archive.read_bytes()
    archive.unlink()
    (line,) = publish(repository, keys, bundle_path, "stable", DAYS).lines
    assert "is there already, version 1" in line
    assert archive.read_bytes() == content


def test_the_old_root_key_is_the_one_that_devices_know(repository: Path) -> None:
    keys = repository.parent / "keys"
    make_key(keys / "stranger", "test", passphrase=False)
    for old in ("stranger", "root"):
        with pytest.raises(ConversionError, match="is to be the root key that devices know"):
            publish(repository, keys, None, "stable", DAYS, old_root=keys / old)
