"""What is asked of systemd: to take a unit, to give it up, and how the service is."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from edge_runtime.console import counted, note, writing
from edge_runtime.errors import EdgeError
from edge_runtime.service.unit import NAME, TIMER, UNIT, UPDATE, Unit, update_units
from edge_runtime.system import PROGRAMS, data_folder, releases_folder, state_folder

SYSTEM_FOLDER = Path("/etc/systemd/system")
_PATIENCE = 330.0  # seconds for systemctl: the start of the service has 300
_HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))  # what ProtectHome hides
_PRIVATE = tuple(map(Path, ("/tmp", "/var/tmp")))  # what PrivateTmp hides
_NOBODY = -1  # the number of a user who is made up when the service starts
_GROUPS = ("audio", "video")  # of sound devices, and of what tells whether a Raspberry Pi throttles
# 0 where users may make no namespaces, or none that hold anything (Ubuntu from 24.04: 1).
_NAMESPACES = {
    "kernel/unprivileged_userns_clone": "0",
    "user/max_user_namespaces": "0",
    "kernel/apparmor_restrict_unprivileged_userns": "1",
}
_SHOWN = (
    "LoadState",
    "UnitFileState",
    "ActiveState",
    "SubState",
    "ActiveEnterTimestamp",
    "StatusText",
    "MainPID",
    "NRestarts",
    "MemoryCurrent",
    "Result",
)


class Systemd:
    """The manager of the machine's services, or of this user's; EdgeError where there is none."""

    def __init__(self, system: bool) -> None:
        self.system = system

    @property
    def unit_path(self) -> Path:
        """Where the unit file is."""
        if self.system:
            return SYSTEM_FOLDER / UNIT
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(base) / "systemd" / "user" / UNIT

    def config(self) -> Path | None:
        """The settings file of the service that is installed; None where its unit names none."""
        try:
            text = self.unit_path.read_text(encoding="utf-8")
            (line,) = re.findall(r"^ExecStart=:?(.*)$", text, re.M)
            words = [word.replace("%%", "%") for word in shlex.split(line)]
            return Path(words[words.index("--config") + 1])
        except (OSError, ValueError, IndexError):
            return None

    def version(self) -> int:
        """Of the manager that runs; it answers, or EdgeError says why not."""
        value = self._show("--property=Version", "--value")
        digits = "".join(c if c.isdigit() else " " for c in value).split()
        return int(digits[0]) if digits else 0

    def install(self, text: str) -> None:
        """Write the unit, start it now and at every boot (or login), whatever was there before."""
        _write(self.unit_path, text)
        self._control("daemon-reload")
        self._control("enable", UNIT)
        try:
            self._control("restart", UNIT)
        except EdgeError as error:
            raise EdgeError(
                f"{UNIT} is installed, but did not start (see {self.words('logs')}): {error}"
            ) from None

    def remove(self) -> None:
        """Stop the service and forget its unit. Raises EdgeError where there is none."""
        path = self.unit_path
        if not path.exists():
            raise EdgeError(f"{UNIT} is not installed: there is no {path}")
        self.unschedule()
        self._control("disable", "--now", UNIT)
        _remove(path)
        self._control("daemon-reload")
        # One that failed is remembered otherwise; one that did not is nothing to reset.
        _ask("systemctl", *self._who, "reset-failed", UNIT)

    def schedule(self, texts: Mapping[str, str]) -> None:
        """Write the units that look for updates, by name, and start their timer now and later."""
        for name, text in texts.items():
            _write(self.unit_path.with_name(name), text)
        self._control("daemon-reload")
        self._control("enable", "--now", TIMER)

    def unschedule(self) -> None:
        """Look for updates no longer, where that was done."""
        timer = self.unit_path.with_name(TIMER)
        if timer.exists():
            self._control("disable", "--now", TIMER)
            _remove(timer)
            _remove(timer.with_name(UPDATE))
            self._control("daemon-reload")

    def restart(self) -> None:
        """End the service and start it, as it is installed now. EdgeError where it does not."""
        self._control("restart", UNIT)

    def reload(self) -> None:
        """Have the service read settings and bundle again, which goes on after this returns."""
        self._control("reload", UNIT)

    def state(self) -> dict[str, str]:
        """Properties of the service by systemd's names; see org.freedesktop.systemd1(5)."""
        shown = self._show(UNIT, f"--property={','.join(_SHOWN)}")
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def logs(self, lines: int, follow: bool) -> int:
        """Hand the last `lines` of its log to standard output; the exit code of journalctl."""
        # --user-unit, not --user: a volatile journal is not kept by user.
        which = ["--unit" if self.system else "--user-unit", UNIT]
        command = ["journalctl", *which, f"--lines={lines}", "--no-pager"]
        if follow:
            command.append("--follow")
        try:
            return subprocess.run(command, check=False).returncode
        except FileNotFoundError:
            raise _absent("journalctl") from None

    def words(self, action: str) -> str:
        """What a user types for an action."""
        return f"{NAME} service {action}{' --system' if self.system else ''}"

    @property
    def _who(self) -> list[str]:
        return [] if self.system else ["--user"]

    def _show(self, *arguments: str) -> str:
        return self._control("show", *arguments)

    def _control(self, *arguments: str) -> str:
        done = _ask("systemctl", *self._who, *arguments)
        if done.returncode:
            raise self._trouble(arguments, done.stderr)
        return done.stdout.strip()

    def _trouble(self, arguments: Sequence[str], said: str) -> EdgeError:
        """What systemctl's message means here, and what helps."""
        unreachable = re.search(r"Failed to connect to .*bus|not been booted", said)
        if unreachable and not Path("/run/systemd/system").is_dir():
            return EdgeError(
                "System has not been booted with systemd (a container?): have whatever starts "
                f"programs here run {NAME} run --wait"
            )
        if unreachable and not self.system:
            return EdgeError(
                "the systemd of this user cannot be reached: log in as the user (sudo and su do "
                f"not), or export XDG_RUNTIME_DIR=/run/user/{os.getuid()}"
            )
        if any(word in said for word in ("Access denied", "authentication", "Permission denied")):
            return _forbidden(f"systemctl {arguments[0]}")
        last = (said.strip().splitlines() or ["no reason given"])[0]
        return EdgeError(f"systemctl {shlex.join(arguments)}: {last}")


def unit_of_this_installation(
    systemd: Systemd,
    config: Path,
    *,
    read: Sequence[Path] = (),
    user: str | None = None,
    writable: Path | None = None,
    memory_mb: int = Unit.memory_mb,
    journal_events: bool = False,
    version: int = 0,
) -> Unit:
    """The unit that starts `edge-emotion run` as it is installed here.

    `config` is the settings file, `read` what it names to be read; the rest as for `Unit`. Raises
    EdgeError for a user who is not there, and for files that the service would not see, or may not
    read.
    """
    command = (*own_command(), "run", "--config", str(config.absolute()), "--wait")
    # An interpreter that finds this program by a variable alone is to find it there as well.
    path = os.environ.get("PYTHONPATH")
    path = path and os.pathsep.join(map(os.path.abspath, path.split(os.pathsep)))
    _warn_of_private(Path(command[0]), Path(__file__), config.absolute())
    unit = Unit(
        command,
        data_folder("."),
        None if systemd.system else state_folder("."),
        systemd.system,
        user,
        _existing(_GROUPS) if systemd.system else (),
        (("PYTHONPATH", path),) if path else (),
        writable.absolute() if writable else None,
        memory_mb,
        journal_events,
        version,
        namespaces_allowed(),
    )
    if systemd.system:
        unit = _of_machine(unit, config.absolute(), read)
        _refuse_unreachable(unit)
        return unit
    if user is not None:
        raise EdgeError("--user is for a service of the machine: --system --user NAME")
    return unit


def updates_of_this_installation(unit: Unit, config: Path) -> dict[str, str]:
    """The units that look for updates of `unit` as it is installed here; see `update_units`."""
    return update_units(unit, (*own_command(), "update", "--config", str(config.absolute())))


def _refuse_unreachable(unit: Unit) -> None:
    """Raise EdgeError where who runs a service of the machine cannot open its program."""
    user = pwd.getpwnam(unit.user) if unit.user else None
    groups = set(os.getgrouplist(user.pw_name, user.pw_gid)) if user else set()
    # By the names that start them: what an environment's Python is a link to may be elsewhere.
    for file in map(Path, (unit.command[0], sys.executable, __file__)):
        closed = _closed_to(user.pw_uid if user else _NOBODY, groups, file)
        if closed is not None:
            who = user.pw_name if user else "others than its owner"
            raise EdgeError(
                f"{closed} cannot be opened by {who}, and the service has to: "
                f"sudo chmod a+rX {shlex.quote(str(closed))}"
            )


def own_command() -> tuple[str, ...]:
    """How this very installation is started; the folder it is started in is not searched.

    One that was delivered, by the link that leads to whatever is current when it is started.
    """
    folder = releases_folder()
    if Path(sys.prefix).resolve().is_relative_to(folder.resolve() / PROGRAMS):
        # A script's first line names the environment itself: what runs does not change under it.
        return (str(folder / "current" / "program" / "bin" / NAME),)
    return (sys.executable, "-P", "-m", "edge_runtime.cli")


def namespaces_allowed() -> bool:
    """Whether the kernel lets users make namespaces that hold something."""
    for name, never in _NAMESPACES.items():
        try:
            if (Path("/proc/sys") / name).read_text(encoding="ascii").strip() == never:
                return False
        except OSError:  # a kernel that does not know it does not forbid it
            continue
    return True


def describe(systemd: Systemd, state: dict[str, str]) -> list[str]:
    """The state of the service in lines."""
    whose = "of this machine" if systemd.system else "of this user"
    if state.get("LoadState") != "loaded":
        return [f"{UNIT} {whose} is not installed: {systemd.words('install')}"]
    active, sub = state.get("ActiveState", "unknown"), state.get("SubState", "")
    since = state.get("ActiveEnterTimestamp")
    lines = [f"{UNIT} {whose}: {active} ({sub})" + (f" since {since}" if since else "")]
    if status := state.get("StatusText"):
        lines.append(f"says: {status}")
    restarts = state.get("NRestarts", "0")
    if active != "active" and state.get("Result") != "success":
        lines.append(f"ended by: {state.get('Result')}; why: {systemd.words('logs')}")
    if restarts.isdigit():
        lines.append(f"started again: {counted(int(restarts), 'time')}")
    memory = state.get("MemoryCurrent", "")
    if memory.isdigit() and int(memory) < 1 << 60:  # the kernel may not count it
        lines.append(f"memory: {int(memory) / 1e6:.0f} MB")
    enabled = state.get("UnitFileState") == "enabled"
    when = "boot" if systemd.system else "login (at boot with linger)"
    lines.append(f"at {when}: {'started' if enabled else 'not started'}")
    return lines


def linger_advice() -> str:
    """What starts a user's service at boot, where nothing does; or nothing."""
    name = _name_of_user()
    try:
        done = _ask("loginctl", "show-user", name, "--property=Linger", "--value")
    except EdgeError:
        return ""
    if done.returncode == 0 and done.stdout.strip() == "yes":
        return ""
    return (
        f"it runs while {name} is logged in; from boot on, and after the last session: "
        f"sudo loginctl enable-linger {shlex.quote(name)}"
    )


def prepare_data(unit: Unit) -> None:
    """Make the folders of a user's own data: what is not there cannot be made writable."""
    for folder in (unit.data, *([unit.state] if unit.state else [])):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            with writing(path):
                path.mkdir(mode=0o700)
                if unit.user is not None:
                    shutil.chown(path, unit.user)


def _of_machine(unit: Unit, config: Path, read: Sequence[Path]) -> Unit:
    """`unit`, a service of the machine, where it can work."""
    groups = {grp.getgrnam(name).gr_gid for name in unit.groups}
    if unit.user is not None:
        try:
            named = pwd.getpwnam(unit.user)
        except KeyError:
            raise EdgeError(
                f"there is no user {unit.user!r} here: sudo useradd --system --groups audio "
                f"{shlex.quote(unit.user)}"
            ) from None
        groups.update(os.getgrouplist(unit.user, named.pw_gid))
        remedy = f"sudo chown {shlex.quote(unit.user)}"
        _refuse_closed((config, *read), named.pw_uid, groups, unit.user, remedy)
        return replace(unit, data=Path(named.pw_dir) / ".local" / "share" / NAME)
    for path in (Path(unit.command[0]), Path(__file__), config):
        if any(path.is_relative_to(home) or path.resolve().is_relative_to(home) for home in _HOMES):
            raise EdgeError(
                f"{path} is in a home, which a service of the machine does not see: install and "
                "configure it elsewhere (/opt, /etc), or name whose home it is: --user NAME"
            )
    remedy = "put passwords into files of their own (LoadCredential), then chmod 644"
    _refuse_closed((config, *read), _NOBODY, groups, "the service, which is somebody else", remedy)
    return unit


def _write(path: Path, text: str) -> None:
    """A unit file, whole or as it was."""
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text(text, encoding="utf-8")
            fresh.chmod(0o644)
            fresh.replace(path)
    except PermissionError:
        raise _forbidden(str(path)) from None


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        raise _forbidden(str(path)) from None


def _refuse_closed(
    files: Sequence[Path], user: int, groups: Set[int], whom: str, remedy: str
) -> None:
    """Raise EdgeError for the first file that a user cannot read; `remedy` is before its name."""
    for file in files:
        closed = _closed_to(user, groups, file.resolve())
        if closed is not None:
            what = f"{remedy} {shlex.quote(str(file))}"
            if closed.is_dir():
                what = f"{closed} is closed to others; put it elsewhere (/etc)"
            raise EdgeError(f"{file} cannot be read by {whom}: {what}")


def _closed_to(user: int, groups: Set[int], file: Path) -> Path | None:
    """The first folder on the way to a file, or the file, that keeps a user out; None where none.

    By the bits of its mode: lists for access control are not looked at. What is not there keeps
    nobody out.
    """
    for path in (*reversed(file.parents), file):
        if not path.exists():
            return None
        state = path.stat()
        wanted = 4 if path == file else 1  # to read it, to go through it
        if state.st_uid == user:
            wanted <<= 6
        elif state.st_gid in groups:
            wanted <<= 3
        if user != 0 and not state.st_mode & wanted:
            return path
    return None


def _warn_of_private(*paths: Path) -> None:
    """Say of what the service will not find, for it has folders of that name to itself."""
    for path in paths:
        if any(path.is_relative_to(folder) for folder in _PRIVATE):
            note(
                f"{NAME}: warning: {path} is in a folder for what is temporary, of which the "
                "service has one of its own (PrivateTmp): it will not be found"
            )


def _existing(groups: Sequence[str]) -> tuple[str, ...]:
    known = {group.gr_name for group in grp.getgrall()}
    return tuple(group for group in groups if group in known)


def _name_of_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""},
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise _absent(command[0]) from None
    except subprocess.TimeoutExpired:
        raise EdgeError(f"{shlex.join(command)} did not end in {_PATIENCE:.0f} s") from None


def _absent(program: str) -> EdgeError:
    return EdgeError(
        f"systemd is not here: there is no {program}; have whatever starts programs on this "
        f"machine run {NAME} run --wait"
    )


def _forbidden(what: str) -> EdgeError:
    again = shlex.join([*own_command(), *sys.argv[1:]])
    return EdgeError(f"{what}: permission denied; as root: sudo {again}")
