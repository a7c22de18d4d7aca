"""What a device can be told: the options of `run`, and what a settings file may hold."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge_runtime import __version__
from edge_runtime.audio.mono import HIGHEST_RATE, LOWEST_RATE
from edge_runtime.audio.raw import ENCODINGS, RawFormat
from edge_runtime.bundle import BUILT, CURRENT, DEFAULT
from edge_runtime.config import Effective, effective, settings_file
from edge_runtime.graph import THREADS
from edge_runtime.segment import NORMAL, SENSITIVITIES
from edge_runtime.settings import Secret, Settings, group, section, setting
from edge_runtime.sinks import AUTO, NAMES, Context
from edge_runtime.sinks.file import FileSettings
from edge_runtime.sinks.keep import KeepSettings
from edge_runtime.sinks.mqtt import MqttSettings
from edge_runtime.sinks.prometheus import PrometheusSettings
from edge_runtime.sinks.reactions import ReactionSettings
from edge_runtime.sinks.socket import SocketSettings
from edge_runtime.stream import PARTIAL_LIMITS, PARTIAL_SECONDS, SHARE
from edge_runtime.text import GIVEN_FORMS, OFF
from edge_runtime.text.engines import forms
from edge_runtime.update.settings import TrustSettings, UpdateSettings
from edge_runtime.web import WebSettings

Chosen = TypeVar("Chosen")
BUNDLE = (
    'Bundle: a folder, a .zip, "default", "small" or "large" where that was built, or "current": '
    "what was delivered last (edge-emotion update)."
)
DEVICE = "Microphone: index or part of its name, see `edge-emotion devices`."
DEVICE_NAME = "What people call this device; unless given, the name of the machine."
GAIN_DB = 40.0  # at most, either way
RAW_FORM = ("rate", "format", "channels")
"""Settings of a source that say what raw samples are."""


@dataclass(frozen=True)
class SourceSettings(Settings):
    """What is listened to, and how it is opened."""

    mic: bool = setting(False, "Listen to a microphone.")
    stdin: bool = setting(
        False,
        "Listen to standard input, as - does: raw samples (--rate, --format, --channels), or any "
        "audio file; WAV, AIFF, MP3, FLAC and OGG are heard as they come.",
    )
    mic_command: str | None = setting(
        None,
        "Listen to what a program writes, raw samples (--rate, --format, --channels), and start it "
        "again when it ends: --mic-command 'arecord -f S16_LE -r 16000 -t raw'.",
        metavar="COMMAND",
    )
    listen: str | None = setting(
        None,
        "Listen to raw samples that another program of this machine sends.",
        metavar="unix:PATH|tcp:PORT",
    )
    wyoming: str | None = setting(
        None,
        "Listen to Wyoming clients (Home Assistant, voice satellites), and tell them what was "
        "heard. Loopback unless a host is named, 0.0.0.0 for all; the protocol has no password.",
        metavar="[HOST:]PORT",
    )
    device: str | None = setting(None, DEVICE)
    channel: int | None = setting(
        None,
        "Of the microphone's channels the one to take; unless given, those that are not dead are "
        "mixed.",
        minimum=1,
        maximum=64,
    )
    wait: bool = setting(
        False,
        "Wait for a microphone or program that is not there yet. One that was heard is always "
        "waited for.",
    )
    gain_db: float = setting(
        0.0,
        "Make a live source so much louder, dB (softer, below 0), before anything is found in it. "
        "The microphone's own gain is better, where it has one.",
        minimum=-GAIN_DB,
        maximum=GAIN_DB,
    )
    rate: int | None = setting(
        None,
        "Of raw samples: frames a second, Hz (16000 unless given).",
        minimum=LOWEST_RATE,
        maximum=HIGHEST_RATE,
    )
    format: str | None = setting(
        None,
        f"Of raw samples: {', '.join(ENCODINGS)} (s16le unless given).",
        choices=tuple(ENCODINGS),
        metavar="FORMAT",
    )
    channels: int | None = setting(
        None, "Of raw samples: samples a frame (1 unless given).", minimum=1, maximum=64
    )

    @property
    def raw(self) -> RawFormat | None:
        """What raw samples are, as far as it is said; None where nothing is."""
        if not (self.rate or self.format or self.channels):
            return None
        default = RawFormat()
        return RawFormat(
            self.format or default.encoding,
            self.rate or default.rate,
            self.channels or default.channels,
        )


@dataclass(frozen=True)
class RunSettings(Settings):
    """Options of `run`."""

    bundle: str = setting(DEFAULT, BUNDLE)
    name: str | None = setting(None, DEVICE_NAME)
    text: str = setting(
        OFF,
        f"Where the words come from: {', '.join((OFF, *forms()))}; or from elsewhere: "
        f"{', '.join(GIVEN_FORMS)} (- is standard input).",
    )
    text_password: Secret | None = setting(
        None, "Password of the user in mqtt://USER@HOST/TOPIC, a broker of words."
    )
    text_password_file: Path | None = setting(None, "File whose first line is that password.")
    out: str = setting(
        AUTO, "Output: pretty, jsonl, none, or auto (pretty on a terminal).", choices=NAMES
    )
    partial_seconds: float = setting(
        PARTIAL_SECONDS,
        "Seconds of speech between two verdicts on a running utterance; 0 for none.",
        PARTIAL_LIMITS,
    )
    threshold: float | None = setting(
        None,
        "Least confidence of a verdict, below it is unsure; unless given, that of the bundle.",
        SHARE,
    )
    sensitivity: str = setting(
        NORMAL,
        "What counts as speech: high finds softer speech, and more that is none; low less of both.",
        choices=SENSITIVITIES,
    )
    speaker: str | None = setting(
        None, "Judge by the plain voice of who is enrolled by this name.", metavar="NAME"
    )
    adapt: bool = setting(
        False,
        "Learn the speaker's plain voice from the stream itself, and forget it where somebody else "
        "speaks.",
    )
    whole: bool = setting(False, "Take each file, or all of the pipe, for one utterance.")
    realtime: bool = setting(False, "Play files at the speed of speech.")
    threads: int = setting(1, "Threads of the interpreter.", THREADS)
    source: SourceSettings = group(SourceSettings())
    file: FileSettings = section(FileSettings())
    keep: KeepSettings = section(KeepSettings())
    socket: SocketSettings = section(SocketSettings())
    on: ReactionSettings = section(ReactionSettings())
    mqtt: MqttSettings = section(MqttSettings())
    web: WebSettings = section(WebSettings())
    prometheus: PrometheusSettings = section(PrometheusSettings())
    trust: TrustSettings = group(TrustSettings())


@dataclass(frozen=True)
class DeviceSettings(RunSettings):
    """What a settings file may hold: the options of `run`, and where updates come from."""

    update: UpdateSettings = group(UpdateSettings())


def own_context(settings: RunSettings, bundle: str = "", labels: Iterable[str] = ()) -> Context:
    """What sinks may tell of this program."""
    return Context(settings.name or socket.gethostname(), __version__, bundle, tuple(labels))


def effective_settings(
    kind: type[Chosen], arguments: argparse.Namespace, alone: bool = False
) -> Effective[Chosen]:
    """Settings of a command, from file, environment and command line; see `effective`."""
    return effective(
        kind, arguments, settings_file(arguments.config), known=DeviceSettings, alone=alone
    )


def lasting(key: str, value: Any) -> Any:
    """The value of a setting as a file has it: paths from the root, for a service starts elsewhere.

    A text that may hold one (a bundle, the model of an engine) is changed where that is there.
    """
    if isinstance(value, Path):
        return Path(_from_root(value))
    if key == "bundle":
        return value if value in (DEFAULT, CURRENT, *BUILT) else _if_there(value)
    if key == "text":
        engine, colon, model = value.partition(":")
        return f"{engine}{colon}{_if_there(model)}"
    if key == "listen" and value is not None and value.startswith("unix:"):
        return f"unix:{_from_root(value.removeprefix('unix:'))}"
    return value


def _from_root(path: str | Path) -> str:
    path = Path(path)
    with suppress(RuntimeError):  # the home of somebody who is not here
        path = path.expanduser()
    return str(path.absolute())


def _if_there(text: str) -> str:
    path = _from_root(text)
    return path if text and os.access(path, os.F_OK) else text
