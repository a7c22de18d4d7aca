"""A systemd of the tests' own: a user's manager and a journal, in namespaces that end with them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SYSTEMD = Path("/lib/systemd/systemd")
JOURNALD = Path("/lib/systemd/systemd-journald")
PATIENCE = 60  # seconds until something that should have happened counts as a hang
# Where things are in there: /run is its own, and the unit hides /tmp, where a checkout may be.
HOME, CHECKOUT, ENVIRONMENT = "/run/home", "/run/checkout", "/run/environment"
PYTHON = f"{ENVIRONMENT}/bin/python"
_VARIABLES = {
    "HOME": HOME,
    "XDG_RUNTIME_DIR": "/run/user/0",
    "PYTHONPATH": CHECKOUT,
}
_LEFT_OUT = (
    "EDGE_EMOTION_CONFIG",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
)
_JOIN = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'
_BEGIN = f"""
set -e
checkout=$(mktemp -d); environment=$(mktemp -d)
mount --bind "$1" "$checkout"; mount --bind "$2" "$environment"
exec 3<"$checkout" 4<"$environment"
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/systemd/unit-root /run/systemd/journald.conf.d /run/user/0
mkdir -p {HOME} {CHECKOUT} {ENVIRONMENT} /run/log/journal
mount --bind /proc/self/fd/3 {CHECKOUT}; mount --bind /proc/self/fd/4 {ENVIRONMENT}
exec 3<&- 4<&-
umount "$checkout" "$environment"; rmdir "$checkout" "$environment"
# What covers a path that a unit may not see: root's manager looks where the machine's makes it.
mkdir -p /run/systemd/inaccessible/dir && cd /run/systemd/inaccessible
touch reg && mknod chr c 0 0 && chmod 0 * && cd /
mount -t cgroup2 cgroup2 /sys/fs/cgroup
printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\n' \
    > /run/systemd/journald.conf.d/tests.conf
{JOURNALD} &
# The journal tells whose a service is by where a machine has a user's manager.
group=/sys/fs/cgroup/user.slice/user-0.slice/user@0.service
mkdir -p $group
sh -c 'echo $$ > "$1/cgroup.procs"; exec {SYSTEMD} --user --unit=basic.target' sh $group &
wait
"""


class OwnSystemd:
    """Started by the constructor; skips the test where the kernel or a right for it is missing.

    Parameters
    ----------
    log : where it writes what happens.
    checkout : whether programs in there import this checkout.
    """

    def __init__(self, log: Path, checkout: bool = True) -> None:
        if not (SYSTEMD.exists() and shutil.which("unshare") and shutil.which("nsenter")):
            pytest.skip("apt install systemd util-linux")
        if os.getuid() != 0:
            pytest.skip("a systemd of the tests' own needs root")
        self._log = log
        self._group = self._make_group()
        self.variables = {k: v for k, v in os.environ.items() if k not in _LEFT_OUT} | _VARIABLES
        """The environment of what runs in there."""
        if not checkout:
            del self.variables["PYTHONPATH"]
        start = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        start += ["--cgroup", "sh", "-c", _BEGIN, "sh", str(ROOT), sys.prefix]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                ["sh", "-c", _JOIN, "sh", str(self._group), *start],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.variables,
            )
        deadline = time.monotonic() + PATIENCE / 2
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._inside() and self.run("systemctl", "--user", "show").returncode == 0:
                return
            time.sleep(0.1)
        self.close()
        pytest.skip(f"no systemd of the tests' own here: {log.read_text(errors='replace')[-300:]}")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside it, as the user whose manager it is."""
        return subprocess.run(
            self.inside(*command),
            capture_output=True,
            text=True,
            env=self.variables,
            timeout=PATIENCE,
        )

    def inside(self, *command: str) -> list[str]:
        """A command out here that runs `command` beside it, with `variables`."""
        target = f"--target={self._inside()}"
        return ["nsenter", target, "--mount", "--pid", "--cgroup", *command]

    def path(self, inside: str) -> Path:
        """A path in there, from out here."""
        return Path(f"/proc/{self._inside()}/root{inside}")

    def close(self) -> None:
        """End it, with all that it started."""
        self._process.kill()
        self._process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self._group.exists() and time.monotonic() < deadline:
            # The deepest first; a group is busy as long as the last of its processes ends.
            for folder, *_ in sorted(os.walk(self._group), reverse=True):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            time.sleep(0.05)

    def _inside(self) -> int:
        """The first process in there; 0 where there is none yet."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return int((children.read_text().split() or ["0"])[0])
        except OSError:
            return 0

    def _make_group(self) -> Path:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        place = next((where for _, where, kind, *_ in mounts if kind == "cgroup2"), None)
        if place is None:
            pytest.skip("no cgroup2 here")
        own = Path("/proc/self/cgroup").read_text().partition("0::")[2].split("\n")[0]
        group = Path(place) / own.strip("/") / f"edge-emotion-{os.getpid()}"
        try:
            group.mkdir(exist_ok=True)
        except OSError as error:
            pytest.skip(f"no control group can be made: {error}")
        return group
