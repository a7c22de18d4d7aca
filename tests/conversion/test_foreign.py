"""What is not a bundle's own is not lost with it, and what signs it is its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversion.bundle import refuse_foreign
from conversion.deliver.keys import make_key, sign
from conversion.diff import differences
from conversion.errors import ConversionError
from edge_runtime.signature import SIGNATURE, STATEMENT


def test_a_signed_bundle_is_replaced(bundle_copy: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "key", "test", passphrase=False)
    sign(bundle_copy, tmp_path / "key")
    refuse_foreign(bundle_copy)


def test_a_file_of_ones_own_is_found_in_a_folder_of_the_bundle(tmp_path: Path) -> None:
    test = tmp_path / "firmware" / "emotion" / "test"
    test.mkdir(parents=True)
    (test / "main.c").touch()
    described = '{"file": "firmware/emotion/test/main.c", "sha256": ""}'
    (tmp_path / "manifest.json").write_text(
        f'{{"schema": 1, "graphs": {{}}, "files": [{described}]}}'
    )
    refuse_foreign(tmp_path)
    (test / "mine.c").touch()
    with pytest.raises(ConversionError, match=r"holds firmware/emotion/test/mine\.c, which is no"):
        refuse_foreign(tmp_path)


def test_what_signs_a_bundle_is_compared(
    bundle_copy: Path, bundle_path: Path, tmp_path: Path
) -> None:
    make_key(tmp_path / "key", "test", passphrase=False)
    sign(bundle_copy, tmp_path / "key", counter=1)
    found = differences(str(bundle_copy), str(bundle_path))
    assert found == [f"{name}: is only in {bundle_copy}" for name in (STATEMENT, SIGNATURE)]
