"""The text of the unit: what is started, what it may do, and when it is started again.

Options are those of systemd.service(5), systemd.exec(5) and systemd.resource-control(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAME = "edge-emotion"
RELEASED = "releases"  # folder of what was delivered, among the user's own data
UNIT = f"{NAME}.service"
UPDATE, TIMER = f"{NAME}-update.service", f"{NAME}-update.timer"
WATCHDOG_SECONDS = 30
_HIGH = 0.8  # of the memory limit: from there on the kernel takes pages back
_GRADUAL = 254  # the version of systemd from which pauses can grow


@dataclass(frozen=True)
class Unit:
    """What a unit depends on."""

    command: tuple[str, ...]
    """What is started; its first word is an absolute path."""
    data: Path
    """The user's own data, which the service may write; a system service has its own place."""
    state: Path | None = None
    """Of a user's service where messages wait for a broker; a system service has its own place."""
    system: bool = False
    """A service of the machine; else of one user."""
    user: str | None = None
    """Of a system service who runs it; None: somebody who is made up for as long as it runs."""
    groups: tuple[str, ...] = ()
    """Of a system service further groups: those who may open sound devices."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that the program needs."""
    writable: Path | None = None
    """A further folder that it may write."""
    memory_mb: int = 768
    """What the service and its children may take of memory, MiB."""
    journal_events: bool = False
    """Whether events, and with them words, go to the journal."""
    version: int = 0
    """Of systemd; 0 where it is not known."""
    namespaces: bool = True
    """Whether users may make namespaces here, on which a user's service stands closed in."""

    def text(self) -> str:
        """The unit file."""
        lines = [
            "# Written by `edge-emotion service install`, which writes over what is changed here.",
            f"# What is to stay: systemctl {'' if self.system else '--user '}edit {UNIT}",
            "[Unit]",
            "Description=Speech emotion recognition on this device",
            f"After=sound.target{'' if self.system else ' pipewire.service pulseaudio.service'}",
            "# Never give up: the pause between two starts is in RestartSec.",
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            *self._process(),
            "",
            *self._limits(),
            "",
            *_CLOSED,
            *(self._system() if self.system else self._user()),
            "",
            "[Install]",
            f"WantedBy={'multi-user' if self.system else 'default'}.target",
        ]
        return "\n".join(lines) + "\n"

    def _process(self) -> list[str]:
        growing = ["RestartSteps=5", "RestartMaxDelaySec=60"] if self.version >= _GRADUAL else []
        return [
            "Type=notify",
            "NotifyAccess=main",
            *_start(self.command, self.environment),
            "ExecReload=kill -HUP $MAINPID",
            "# The loop that judges tells it twice in that time that it goes on.",
            f"WatchdogSec={WATCHDOG_SECONDS}",
            "# An engine for words may load that long.",
            "TimeoutStartSec=300",
            "Restart=always",
            "RestartSec=5",
            *growing,
            "# Stopped while it still starts.",
            "SuccessExitStatus=143",
            "# The process itself ends its children; what is left then is killed.",
            "KillMode=mixed",
            "TimeoutStopSec=20",
            "# Events tell what people say: the journal has them only where that was asked for.",
            f"StandardOutput={'journal' if self.journal_events else 'null'}",
            "StandardError=journal",
            f"SyslogIdentifier={NAME}",
        ]

    def _limits(self) -> list[str]:
        return [
            f"MemoryHigh={round(_HIGH * self.memory_mb)}M",
            f"MemoryMax={self.memory_mb}M",
            "# An engine for words that takes too much is started again by the program.",
            "OOMPolicy=continue",
            "TasksMax=128",
        ]

    def _system(self) -> list[str]:
        who = [f"User={self.user}"] if self.user else ["DynamicUser=yes"]
        # Where somebody made up has no home, nobody's home need be seen.
        home = "read-only" if self.user else "yes"
        own = [self.data] if self.user else []
        return [
            "",
            *who,
            *([f"SupplementaryGroups={' '.join(self.groups)}"] if self.groups else []),
            *([] if self.user else ["Environment=XDG_DATA_HOME=%S"]),
            f"StateDirectory={NAME}",
            "StateDirectoryMode=0700",
            "ProtectSystem=strict",
            f"ProtectHome={home}",
            "PrivateTmp=yes",
            *self._writable(own),
            f"ConfigurationDirectory={NAME}",
            "ConfigurationDirectoryMode=0755",
            "DevicePolicy=closed",
            "DeviceAllow=char-alsa rw",
            "# A Raspberry Pi tells there whether it is throttled.",
            "DeviceAllow=/dev/vcio rw",
            *_UNPRIVILEGED,
            "AmbientCapabilities=",
            "PrivateIPC=yes",
            "RemoveIPC=yes",
            "# A password in a file that root alone can read; the settings then name",
            f"# /run/credentials/{UNIT}/mqtt as the file it is in.",
            f"# LoadCredential=mqtt:/etc/{NAME}/mqtt",
        ]

    def _user(self) -> list[str]:
        if not self.namespaces:
            return ["# This kernel lets no user make namespaces: files stay open to the service."]
        return [
            "",
            "# With PrivateUsers a user's manager can do the others; DevicePolicy it never can.",
            *_UNPRIVILEGED,
            "ProtectSystem=strict",
            "ProtectHome=read-only",
            "PrivateTmp=yes",
            *self._writable([self.data, *([self.state] if self.state else [])]),
        ]

    def _writable(self, own: list[Path]) -> list[str]:
        folders = [*own, *([self.writable] if self.writable else [])]
        return [
            *(f"ReadWritePaths={quoted(f'-{folder}')}" for folder in folders),
            # What is run is not changed by what runs: updates come by another program.
            *([f"ReadOnlyPaths={quoted(f'-{self.data / RELEASED}')}"] if own else []),
        ]


# ProcSubset=pid is not among them: the interpreter asks /proc/cpuinfo which instructions there are.
_CLOSED = (
    "UMask=0077",
    f"RuntimeDirectory={NAME}",
    "NoNewPrivileges=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "# Refused, not killed: a library that asks for a priority goes on without.",
    "SystemCallErrorNumber=EPERM",
    "# Not MemoryDenyWriteExecute: the interpreter works with it, sounddevice does not (cffi",
    "# allocates memory that is writable and executable for the callback of the microphone).",
)
# What gives up privileges. A user's manager has none to give up but in a namespace of its own:
# without PrivateUsers, systemd 252 ends the service with 218/CAPABILITIES.
_UNPRIVILEGED = (
    "PrivateUsers=yes",
    "CapabilityBoundingSet=",
    "KeyringMode=private",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
)


def update_units(unit: Unit, command: tuple[str, ...]) -> dict[str, str]:
    """The units by name that look for updates of what `unit` runs, by a `command` like its own."""
    return {
        UPDATE: "\n".join(
            [
                "# Written by `edge-emotion service install`, as the timer beside it.",
                "[Unit]",
                "Description=Updates of speech emotion recognition on this device",
                "",
                "[Service]",
                "Type=oneshot",
                *_start(command, unit.environment),
                f"SyslogIdentifier={NAME}",
                "",
            ]
        ),
        TIMER: "\n".join(
            [
                "# Written by `edge-emotion service install`. Another time: systemctl edit.",
                "[Unit]",
                "Description=When this device looks for updates of speech emotion recognition",
                "",
                "[Timer]",
                "OnCalendar=hourly",
                "# A fleet does not come all at once.",
                "RandomizedDelaySec=30min",
                "Persistent=yes",
                "",
                "[Install]",
                "WantedBy=timers.target",
                "",
            ]
        ),
    }


def _start(command: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> list[str]:
    """Lines that start a command with further variables."""
    # ":" takes $ for what it is.
    plain = ":" if any("$" in word for word in command) else ""
    return [
        f"ExecStart={plain}{' '.join(map(quoted, command))}",
        *(f"Environment={quoted(f'{name}={value}')}" for name, value in environment),
    ]


def quoted(word: str) -> str:
    """`word` as a unit has it: specifiers doubled, quotes where systemd.syntax(7) asks for them.

    Control characters become escapes.
    """
    plain = word.replace("%", "%%")
    escaped = "".join(_escaped(c) for c in plain)
    if escaped == plain and word and not any(c in " ;'" for c in word):
        return plain
    return f'"{escaped}"'


def _escaped(c: str) -> str:
    if c in '"\\':
        return f"\\{c}"
    return f"\\x{ord(c):02x}" if ord(c) < 0x20 or ord(c) == 0x7F else c
