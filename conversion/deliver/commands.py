"""The commands of `python -m conversion` that bring a bundle to devices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from conversion.deliver import DAYS
from edge_runtime.console import OK


def add(commands: Any) -> None:
    """Add them to the parser's."""
    _add_deploy(commands)
    _add_key(commands)
    _add_sign(commands)
    _add_publish(commands)


def _add_key(commands: Any) -> None:
    key = commands.add_parser(
        "key",
        help="a key to sign bundles with",
        description="Make an Ed25519 key in the form of OpenSSH: FILE, which stays with you, and "
        "FILE.pub, which goes to the devices (bundle_key in their settings).",
    )
    key.add_argument("file", type=Path, metavar="FILE", help="private key to write")
    _add_passphrase(key)
    key.set_defaults(command=_key)


def _add_sign(commands: Any) -> None:
    sign = commands.add_parser(
        "sign",
        help="sign a bundle, so that devices know whose it is",
        description="Write SIGNED.json (the sha256 of every file, and a counter) and its "
        "signature into the folder of a bundle. A device that has the key pinned runs no other, "
        "and none with a lower counter than it ran before: to go back, sign the old bundle again.",
    )
    sign.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
    sign.add_argument(
        "--key",
        type=Path,
        required=True,
        metavar="FILE",
        help="private key; or a .pub, whose private key ssh-agent or a security token holds",
    )
    sign.add_argument(
        "--counter", type=int, metavar="N", help="default: the time, in seconds since 1970"
    )
    sign.set_defaults(command=_sign)


def _add_publish(commands: Any) -> None:
    publish = commands.add_parser(
        "publish",
        help="put a bundle into an update repository that devices poll",
        description="Keep a static update repository in the format of TUF, for any web server. "
        "--init makes it, and its keys where KEYS has none. Without a BUNDLE, what would soon "
        "expire is renewed: let a nightly job do that with the key online alone.",
    )
    publish.add_argument(
        "bundle", nargs="?", type=Path, metavar="BUNDLE", help="folder or .zip of a bundle"
    )
    publish.add_argument("repository", type=Path, metavar="REPO", help="folder that is served")
    publish.add_argument(
        "--keys",
        type=Path,
        required=True,
        metavar="KEYS",
        help="folder of the keys root, targets and online; those that are not needed may be absent",
    )
    publish.add_argument("--init", action="store_true", help="make the repository first")
    publish.add_argument("--channel", default="stable", help="default: stable")
    publish.add_argument(
        "--old-root",
        type=Path,
        metavar="FILE",
        help="private root key that devices know, where another one is in KEYS now: they follow",
    )
    for role, days in DAYS.items():
        publish.add_argument(
            f"--{role}-days",
            type=int,
            default=days,
            metavar="N",
            help=f"for how long the {role} counts (default: {days})",
        )
    _add_passphrase(publish)
    publish.set_defaults(command=_publish)


def _add_deploy(commands: Any) -> None:
    deploy = commands.add_parser(
        "deploy",
        help="bring program and bundle to devices, over ssh",
        description="Bring the wheel of edge_runtime and a bundle to devices over OpenSSH's own "
        "client, as it is configured here. Each is checked first (Python, architecture, disk); "
        "the release is installed beside the one that runs, tried there, and switched at once; "
        "a service is told, and where it does not go on, all is switched back. Until the switch, "
        "Ctrl-C and a lost connection leave everything as it is.",
    )
    deploy.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder or .zip of a bundle")
    deploy.add_argument("hosts", nargs="+", metavar="USER@HOST", help="devices")
    deploy.add_argument(
        "--wheel", type=Path, metavar="FILE", help="wheel (default: built from this checkout)"
    )
    deploy.add_argument(
        "--extras", default="mic", help="of the wheel, with commas between (default: mic)"
    )
    deploy.add_argument(
        "--wheels",
        type=Path,
        metavar="FOLDER",
        help="install from the wheels in here alone, which are brought along: for devices without "
        "a network (pip download -d FOLDER --platform ... WHEEL)",
    )
    deploy.add_argument(
        "--python", default="python3", help="interpreter on the device (default: python3)"
    )
    deploy.add_argument(
        "--system-site-packages",
        action="store_true",
        help="let the program see what apt installed there; 32-bit devices always do, for NumPy",
    )
    deploy.add_argument(
        "--folder", default="", help="for releases on the device (default: in the user's own data)"
    )
    deploy.add_argument(
        "--bundle-key",
        type=Path,
        metavar="FILE",
        help="public key that must have signed the bundle; checked on the device",
    )
    deploy.add_argument(
        "--allow-downgrade", action="store_true", help="take a signed bundle that is older"
    )
    deploy.add_argument(
        "--repository-root",
        type=Path,
        metavar="FILE",
        help="root.json of the update repository that the devices are to poll later: pinned there",
    )
    deploy.add_argument("-p", "--port", type=int, help="of ssh")
    deploy.add_argument(
        "-o",
        "--ssh-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of ssh, as its -o; as often as needed",
    )
    deploy.add_argument(
        "--jobs", type=int, default=4, metavar="N", help="devices at a time (default: 4)"
    )
    deploy.set_defaults(command=_deploy)


def _add_passphrase(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-passphrase", action="store_true", help="make keys that whoever has the file can use"
    )


def _key(arguments: argparse.Namespace) -> int:
    from conversion.deliver.keys import make_key

    make_key(arguments.file, "edge-emotion bundles", not arguments.no_passphrase)
    print(f"{arguments.file}: keep it to yourself; {arguments.file}.pub goes to the devices")
    return OK


def _sign(arguments: argparse.Namespace) -> int:
    from conversion.deliver.keys import sign

    statement = sign(arguments.bundle, arguments.key, arguments.counter)
    print(f"{arguments.bundle}: {len(statement.files)} files signed, counter {statement.counter}")
    return OK


def _publish(arguments: argparse.Namespace) -> int:
    from conversion.deliver.repository import make_repository, publish

    folder, keys = arguments.repository, arguments.keys
    if arguments.init:
        make_repository(folder, keys, not arguments.no_passphrase)
        print(f"{folder}: devices are given {folder}/metadata/1.root.json, by hand")
    days = {role: getattr(arguments, f"{role}_days") for role in DAYS}
    old_root = arguments.old_root
    done = publish(folder, keys, arguments.bundle, arguments.channel, days, old_root)
    for line in done.lines:
        print(line)
    print(f"{folder}: renew it before {done.expires:%Y-%m-%d %H:%M} UTC, or devices refuse it")
    return OK


def _deploy(arguments: argparse.Namespace) -> int:
    from conversion.deliver.deploy import Asked, deploy

    return deploy(
        arguments.bundle,
        arguments.hosts,
        Asked(
            wheel=arguments.wheel,
            extras=arguments.extras,
            wheels=arguments.wheels,
            python=arguments.python,
            folder=arguments.folder,
            key=arguments.bundle_key,
            allow_downgrade=arguments.allow_downgrade,
            root=arguments.repository_root,
            port=arguments.port,
            options=tuple(arguments.ssh_option),
            system_packages=arguments.system_site_packages,
            jobs=arguments.jobs,
        ),
    )
