"""What `python -m conversion sign` signs, and what a device then takes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversion.deliver.keys import make_key, sign
from conversion.deliver.pack import pack
from conversion.errors import ConversionError
from edge_runtime.bundle import load_bundle
from edge_runtime.errors import BundleError
from edge_runtime.signature import SIGNATURE, STATEMENT, Trust, public_keys
from edge_runtime.update.delivery import Wanted, deliver, go_back
from edge_runtime.update.releases import PINNED_KEY, Releases, UpdateError


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "key", "test", passphrase=False)
    return tmp_path / "key"


@pytest.fixture
def trust(key: Path) -> Trust:
    return Trust(key.with_suffix(".pub"))


def test_every_file_of_a_bundle_is_signed(bundle_copy: Path, key: Path) -> None:
    """The manifest has no hash of itself, nor of the card."""
    (bundle_copy / "NOTES.txt").write_text("of ours")
    statement = sign(bundle_copy, key)
    files = {path.name for path in bundle_copy.iterdir()} - {STATEMENT, SIGNATURE}
    assert set(statement.files) == files
    assert {"manifest.json", "MODEL_CARD.md", "reference.npz", "NOTES.txt"} <= files


@pytest.mark.parametrize("name", ["manifest.json", "MODEL_CARD.md", "reference.npz", STATEMENT])
def test_a_file_that_was_changed_is_not_delivered(
    bundle_copy: Path, key: Path, trust: Trust, tmp_path: Path, name: str
) -> None:
    sign(bundle_copy, key)
    with (bundle_copy / name).open("a") as file:
        file.write(" ")
    releases = Releases(tmp_path / "releases")
    with releases.locked(), pytest.raises(BundleError, match="signed"):
        deliver(releases, Wanted(bundle_copy, "here", trust), lambda another: None)
    assert releases.current == 0
    assert releases.numbers() == []


def test_what_was_not_signed_is_not_delivered(
    bundle_copy: Path, key: Path, trust: Trust, tmp_path: Path
) -> None:
    sign(bundle_copy, key)
    (bundle_copy / "extra.bin").write_bytes(b"whatever")
    pack(bundle_copy, tmp_path / "bundle.zip")
    releases = Releases(tmp_path / "releases")
    with releases.locked():
        wanted = Wanted(tmp_path / "bundle.zip", "here", trust)
        assert deliver(releases, wanted, lambda another: None) == 1
    assert not (releases.folder / "current" / "bundle" / "extra.bin").exists()
    assert (releases.folder / "current" / "bundle" / "MODEL_CARD.md").exists()
    assert releases.memory.floor == load_statement(bundle_copy)


def load_statement(bundle: Path) -> int:
    return int(json.loads((bundle / STATEMENT).read_text())["counter"])


def test_a_signature_by_another_key_or_for_another_purpose_is_none(
    bundle_copy: Path, key: Path, trust: Trust, tmp_path: Path
) -> None:
    make_key(tmp_path / "other", "test", passphrase=False)
    sign(bundle_copy, tmp_path / "other")
    with pytest.raises(BundleError, match="is not signed by the key that is pinned here"):
        load_bundle(bundle_copy, trust)
    (bundle_copy / SIGNATURE).unlink()
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", key, bundle_copy / STATEMENT]
    subprocess.run(command, check=True)
    with pytest.raises(BundleError, match="is not signed by the key that is pinned here"):
        load_bundle(bundle_copy, trust)


def test_a_lower_counter_than_that_which_ran_is_refused(bundle_copy: Path, key: Path) -> None:
    sign(bundle_copy, key, counter=5)
    public = key.with_suffix(".pub")
    load_bundle(bundle_copy, Trust(public, 5))
    with pytest.raises(BundleError, match=r"is older \(counter 5\) than .* \(6\).*--allow-downgr"):
        load_bundle(bundle_copy, Trust(public, 6))


def test_what_is_signed_later_is_newer(bundle_copy: Path, key: Path) -> None:
    first = sign(bundle_copy, key).counter
    assert sign(bundle_copy, key).counter >= first > 1_700_000_000


def test_either_of_two_pinned_keys_may_have_signed(
    bundle_copy: Path, key: Path, tmp_path: Path
) -> None:
    """How a key is replaced: both are pinned for a while."""
    make_key(tmp_path / "next", "test", passphrase=False)
    both = tmp_path / "both.pub"
    both.write_text((tmp_path / "next.pub").read_text() + key.with_suffix(".pub").read_text())
    for one in (key, tmp_path / "next"):
        sign(bundle_copy, one)
        load_bundle(bundle_copy, Trust(both))


def test_the_bundle_that_came_with_the_program_needs_no_signature(trust: Trust) -> None:
    assert load_bundle("default", trust).manifest.name == "default"


def test_other_keys_than_ed25519_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rsa"
    make = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", file]
    subprocess.run(make, check=True)
    with pytest.raises(ValueError, match="is no public Ed25519 key"):
        public_keys(file.with_suffix(".pub"))
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        public_keys(tmp_path / "none.pub")


def test_a_key_is_never_written_over(key: Path) -> None:
    before = key.read_text()
    with pytest.raises(ConversionError, match="is there already"):
        make_key(key, "test", passphrase=False)
    assert key.read_text() == before
    assert key.stat().st_mode & 0o077 == 0


def test_an_archive_is_signed_before_it_is_packed(bundle_path: Path, key: Path) -> None:
    with pytest.raises(ConversionError, match="is no folder"):
        sign(bundle_path / "manifest.json", key)


def test_the_same_bundle_is_the_same_archive(bundle_copy: Path, tmp_path: Path) -> None:
    pack(bundle_copy, tmp_path / "one.zip")
    for path in bundle_copy.iterdir():
        path.touch()
    pack(bundle_copy, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert "MODEL_CARD.md" in archive.namelist()


def quiet(another: bool) -> None:
    """Nothing listens."""


def test_the_way_back_takes_the_pinned_key_along(
    bundle_copy: Path, key: Path, trust: Trust, tmp_path: Path
) -> None:
    releases = Releases(tmp_path / "releases")
    sign(bundle_copy, key, counter=1)
    with releases.locked():
        deliver(releases, Wanted(bundle_copy, "here"), quiet)
        sign(bundle_copy, key, counter=2)
        pins = {PINNED_KEY: trust.key}
        deliver(releases, Wanted(bundle_copy, "here", trust, pins=pins), quiet)
        assert go_back(releases, quiet, Trust(trust.key, floor=2)) == 1
        pinned = releases.pinned(PINNED_KEY)
        assert pinned is not None
        assert pinned.read_text() == trust.key.read_text()
        releases.unpin(PINNED_KEY)
        assert releases.pinned(PINNED_KEY) is None
        with pytest.raises(UpdateError, match=r"no bundle\.pub is pinned"):
            releases.unpin(PINNED_KEY)


def test_no_way_leads_back_to_what_the_pinned_key_has_not_signed(
    bundle_copy: Path, key: Path, trust: Trust, tmp_path: Path
) -> None:
    releases = Releases(tmp_path / "releases")
    with releases.locked():
        deliver(releases, Wanted(bundle_copy, "here"), quiet)
        sign(bundle_copy, key)
        pins = {PINNED_KEY: trust.key}
        deliver(releases, Wanted(bundle_copy, "here", trust, pins=pins), quiet)
        with pytest.raises(UpdateError, match=r"is not signed.*edge-emotion update --unpin"):
            go_back(releases, quiet, trust)
        assert releases.current == 2
        releases.unpin(PINNED_KEY)
        assert go_back(releases, quiet, None) == 1
        assert releases.pinned(PINNED_KEY) is None


def test_what_is_there_by_the_same_name_is_kept_only_where_it_is_signed(
    bundle_copy: Path, key: Path, trust: Trust, tmp_path: Path
) -> None:
    releases = Releases(tmp_path / "releases")
    sign(bundle_copy, key)
    with releases.locked():
        deliver(releases, Wanted(bundle_copy, "here", trust), quiet)
        place = (releases.folder / "current" / "bundle").resolve()
        (place / SIGNATURE).write_text("none")
        deliver(releases, Wanted(bundle_copy, "here", trust), quiet)
    load_bundle(place, trust)


@pytest.fixture
def strict() -> Iterator[Path]:
    """A folder that everybody may enter, and a user whose files nobody else may read."""
    before = os.umask(0o077)
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    os.umask(before)
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="root alone delivers for a service of the machine")
def test_what_root_delivers_a_service_of_the_machine_can_read(
    bundle_copy: Path, key: Path, trust: Trust, strict: Path
) -> None:
    sign(bundle_copy, key)
    releases = Releases(strict / "opt" / "edge-emotion")
    with releases.locked():
        wanted = Wanted(bundle_copy, "here", trust, pins={PINNED_KEY: trust.key})
        deliver(releases, wanted, quiet)
    assert os.umask(0o077) == 0o077
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    files = ["current/bundle/manifest.json", "current/bundle.pub", "releases.json"]
    for name in files:
        done = subprocess.run([*nobody, "cat", releases.folder / name], stdout=subprocess.DEVNULL)
        assert done.returncode == 0, name


@pytest.fixture
def with_a_script(bundle_copy: Path) -> Path:
    """A bundle with a further file, as one for Jetson has."""
    script = b"#!/bin/sh\necho engines\n"
    (bundle_copy / "build-engines.sh").write_bytes(script)
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    manifest["files"] = [{"file": "build-engines.sh", "sha256": hashlib.sha256(script).hexdigest()}]
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    return bundle_copy


def test_all_that_the_manifest_names_is_delivered(with_a_script: Path, tmp_path: Path) -> None:
    releases = Releases(tmp_path / "releases")
    with releases.locked():
        deliver(releases, Wanted(with_a_script, "here"), quiet)
    assert (releases.folder / "current" / "bundle" / "build-engines.sh").exists()


def test_no_file_that_the_manifest_names_is_another(with_a_script: Path, tmp_path: Path) -> None:
    script = with_a_script / "build-engines.sh"
    script.write_text("echo others")
    with pytest.raises(BundleError, match=r"build-engines\.sh is damaged"):
        pack(with_a_script, tmp_path / "bundle.zip")
    script.unlink()
    with pytest.raises(BundleError, match=r"cannot read build-engines\.sh"):
        load_bundle(with_a_script)
