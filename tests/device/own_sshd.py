"""A device of the tests' own: a real sshd on loopback, with keys, a home and a log of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime.bundle import load_bundle
from edge_runtime.update.releases import Releases

SSHD = Path("/usr/sbin/sshd")
RELAY = Path(__file__).with_name("cut_relay.py")
PATIENCE = 60  # seconds until something that should have happened counts as a hang
# Debian's sshd, run by root, wants it; the package's own service makes it at its start.
_SEPARATION = Path("/run/sshd")


class OwnSshd:
    """Started by the constructor; skips the test where no sshd is installed."""

    def __init__(self, folder: Path, python: Path) -> None:
        """`python` is an interpreter that the device has beside its own `python3`."""
        if not SSHD.exists() or not shutil.which("ssh"):
            pytest.skip("apt install openssh-server openssh-client")
        self.home, self._folder, self.python = folder / "home", folder, python
        self.home.mkdir(parents=True)
        if os.getuid() == 0:
            _SEPARATION.mkdir(mode=0o755, exist_ok=True)
        for name in ("host", "id", "stranger"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True)
        shutil.copy(folder / "id.pub", folder / "authorized")
        with socket.create_server(("127.0.0.1", 0)) as trial:
            self.port = trial.getsockname()[1]
        public = " ".join((folder / "host.pub").read_text().split()[:2])
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {public}\n")
        (folder / "unknown").touch()
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700)
        variables = {
            "HOME": self.home,
            "XDG_DATA_HOME": self.home / "data",
            "XDG_CONFIG_HOME": self.home / "config",
            "XDG_RUNTIME_DIR": runtime,  # where no systemd is
        }
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPidFile none\nUsePAM no\n"
            "PermitRootLogin yes\nPasswordAuthentication no\nLogLevel DEBUG\nMaxStartups 100\n"
            "Subsystem sftp internal-sftp\n"  # by which scp copies, since OpenSSH 9
            f"SetEnv {' '.join(f'{name}={value}' for name, value in variables.items())}\n"
        )
        self._process = subprocess.Popen(
            [str(SSHD), "-D", "-f", str(folder / "config"), "-E", str(folder / "log")],
            stdin=subprocess.DEVNULL,
        )
        self._wait_until_it_listens()

    @property
    def releases(self) -> Releases:
        """What was delivered."""
        return Releases(self.home / "data" / "edge-emotion" / "releases")

    @property
    def settings(self) -> Path:
        """The settings file of its user."""
        return self.home / "config" / "edge-emotion" / "config.toml"

    def options(self, known: str = "known", identity: str = "id") -> list[str]:
        """Of `deploy`: where the keys are, and the port."""
        options = {
            "IdentityFile": self._folder / identity,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self._folder / known,
            "GlobalKnownHostsFile": "/dev/null",
            "IdentityAgent": "none",
        }
        named = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["-p", str(self.port), *named]

    def cut(self, most: int, how: str) -> list[str]:
        """Of `deploy`: a line that takes `most` bytes; then it is closed, or hangs."""
        relay = f"{sys.executable} {RELAY} {self.port} {most} {how}"
        return ["-o", f"ProxyCommand={relay}"]

    def connections(self) -> list[int]:
        """The processes of sshd that serve one."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(number) for number in children.read_text().split()]

    def state(self) -> tuple[int, str]:
        """Which release is current, once its bundle is found to be whole; and what it is made of.

        Fails where something that was cut off is left that a device would take for a release.
        """
        releases = self.releases
        number = releases.current
        bundle = (releases.place(number) / "bundle").resolve()
        load_bundle(bundle)
        return number, json.dumps([str(bundle), str(releases.program(number))])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the program that is current there, in the environment of a login."""
        program = self.releases.folder / "current" / "program" / "bin" / "edge-emotion"
        return subprocess.run(
            [str(program), *arguments],
            capture_output=True,
            text=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "XDG_DATA_HOME": str(self.home / "data"),
                "XDG_CONFIG_HOME": str(self.home / "config"),
            },
            timeout=PATIENCE,
        )

    def close(self) -> None:
        """End it, with whom it serves."""
        for pid in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self._process.kill()
        self._process.wait(PATIENCE)

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                pytest.skip(f"no sshd here: {(self._folder / 'log').read_text()[-300:]}")
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            time.sleep(0.05)
        pytest.fail("sshd does not listen")
