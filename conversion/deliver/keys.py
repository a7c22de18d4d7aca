"""Keys: Ed25519 in the files of OpenSSH, made and signed with by `ssh-keygen`."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from conversion.deliver.pack import sha256_of
from conversion.errors import ConversionError
from edge_runtime.bundle import load_bundle
from edge_runtime.signature import NAMESPACE, SIGNATURE, STATEMENT, Statement, Trust
from training.output import at_once


def make_key(file: Path, comment: str, passphrase: bool) -> None:
    """Write a new private key to `file`, and its public key to FILE.pub.

    With `passphrase`, ssh-keygen asks for one at the terminal. Raises ConversionError where a key
    is there, or none could be made.
    """
    if file.exists():
        raise ConversionError(f"{file} is there already; a key is never written over")
    file.parent.mkdir(parents=True, exist_ok=True)
    keygen("-q", "-t", "ed25519", "-C", comment, "-f", file, *([] if passphrase else ["-N", ""]))


def sign(bundle: Path, key: Path, counter: int | None = None) -> Statement:
    """Write SIGNED.json and its signature into the folder `bundle`; what was signed.

    `key` is a private key of OpenSSH's, or a public one whose private key the agent or a security
    token holds. `counter` is by default the time in seconds since 1970: what is signed later is
    newer. Raises ConversionError, and BundleError for what is no bundle.
    """
    if not bundle.is_dir():
        raise ConversionError(f"{bundle} is no folder: sign the folder of a bundle, then pack it")
    load_bundle(bundle)
    files = {
        path.relative_to(bundle).as_posix(): sha256_of(path)
        for path in sorted(bundle.rglob("*"))
        if path.is_file() and path.name not in (STATEMENT, SIGNATURE)
    }
    statement = Statement(int(time.time()) if counter is None else counter, files)
    with at_once(bundle / STATEMENT) as new:
        new.write_bytes(statement.content())
        keygen("-q", "-Y", "sign", "-n", NAMESPACE, "-f", key, new)
        new.with_name(SIGNATURE).replace(bundle / SIGNATURE)
    public = key if key.suffix == ".pub" else key.with_name(f"{key.name}.pub")
    if public.is_file():
        load_bundle(bundle, Trust(public))  # a device would take it
    return statement


def keygen(*arguments: str | Path) -> None:
    """Run ssh-keygen, which may ask for a passphrase. Raises ConversionError where it fails."""
    try:
        done = subprocess.run(
            ["ssh-keygen", *map(str, arguments)],
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        raise ConversionError("this needs ssh-keygen: apt install openssh-client") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip(" @")]
        raise ConversionError(f"ssh-keygen: {said[-1] if said else 'no reason given'}")
