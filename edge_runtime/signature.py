"""Who made a bundle: an Ed25519 signature by OpenSSH's `ssh-keygen -Y`, and a counter in it.

What is signed is SIGNED.json: the sha256 of every file of the bundle, the manifest and the card
among them, and a counter that only grows. SIGNED.json.sig is the signature (PROTOCOL.sshsig of
OpenSSH) in a namespace of its own, so that no other signature by the same key passes for one.
The counter is what keeps an old bundle, rightly signed once, from coming back.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.untrusted import parse_json, read_regular, shown

STATEMENT, SIGNATURE = "SIGNED.json", "SIGNED.json.sig"
NAMESPACE = "edge-emotion-bundle"
_SCHEMA = 1
_WHO = "bundle"  # what the keys go by, of which any may have signed
_TYPES = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com")  # the second: a key in a security token
_MOST_KEYS = 100_000  # bytes of a file of public keys
_PATIENCE = 30.0  # seconds for a hash and a signature
_LARGEST = 1 << 53  # what JSON's numbers hold exactly


@dataclass(frozen=True)
class Statement:
    """What is signed."""

    counter: int
    """Grows from one bundle to the next, from 1 to 2^53."""
    files: dict[str, str]
    """sha256, hexadecimal, by name inside the bundle."""

    def content(self) -> bytes:
        """SIGNED.json."""
        fields = {"schema": _SCHEMA, "counter": self.counter, "files": self.files}
        return (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()


@dataclass(frozen=True)
class Trust:
    """Whose bundles are run, and which of them."""

    key: Path
    """Public keys, one a line as in *.pub; any of them may have signed."""
    floor: int = 0
    """The least counter that is taken."""


def verified_statement(content: bytes, signature: bytes, trust: Trust) -> Statement:
    """The statement `content`, if a pinned key has signed it and it is no older than it may be.

    Raises ValueError, in words that fit behind the name of the bundle.
    """
    _check_signature(content, signature, public_keys(trust.key))
    statement = _parsed(content)
    if statement.counter < trust.floor:
        raise ValueError(
            f"is older (counter {statement.counter}) than what was installed here "
            f"({trust.floor}); to go back nevertheless: --allow-downgrade"
        )
    return statement


def public_keys(file: Path) -> list[str]:
    """The Ed25519 keys in a file, `TYPE BASE64`. ValueError where it holds none, or another."""
    try:
        lines = read_regular(file, _MOST_KEYS).decode("ascii").splitlines()
    except OSError as error:
        raise ValueError(f"the key {file} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{file} is no file of public keys") from None
    keys = [line.split()[:2] for line in lines if line.strip() and not line.startswith("#")]
    if not keys or any(len(key) < 2 or key[0] not in _TYPES for key in keys):
        raise ValueError(f"{file} is no public Ed25519 key: expected a line {_TYPES[0]} AAAA...")
    return [" ".join(key) for key in keys]


def ask_keygen(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `ssh-keygen` with bytes for its standard input. ValueError where it is not here."""
    try:
        return subprocess.run(
            ["ssh-keygen", *arguments],
            input=given,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise ValueError("needs ssh-keygen: apt install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"ssh-keygen did not end in {_PATIENCE:.0f} s") from None


def _check_signature(content: bytes, signature: bytes, keys: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="edge-emotion-") as folder:
        signers, file = Path(folder, "signers"), Path(folder, "signature")
        lines = "".join(f'{_WHO} namespaces="{NAMESPACE}" {key}\n' for key in keys)
        signers.write_text(lines, encoding="ascii")
        file.write_bytes(signature)
        who = ("-I", _WHO, "-n", NAMESPACE, "-f", str(signers), "-s", str(file))
        done = ask_keygen("-Y", "verify", *who, given=content)
    if done.returncode:
        raise ValueError("is not signed by the key that is pinned here")


def _parsed(content: bytes) -> Statement:
    raw = parse_json(content)
    if not isinstance(raw, dict) or raw.get("schema") != _SCHEMA:
        raise ValueError(f"has a {STATEMENT} of an unknown kind: is this program too old for it?")
    counter, files = raw.get("counter"), raw.get("files")
    if type(counter) is not int or not 0 < counter <= _LARGEST:
        raise ValueError(f"has a {STATEMENT} whose counter is {shown(counter)}")
    if not isinstance(files, dict) or not all(
        isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
        for digest in files.values()
    ):
        raise ValueError(f"has a {STATEMENT} that does not list its files")
    return Statement(counter, files)
