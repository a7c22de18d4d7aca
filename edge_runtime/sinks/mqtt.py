"""Events as MQTT messages: in order, at least once, also across outages and restarts."""

from __future__ import annotations

import re
import time
import unicodedata
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING

from edge_runtime.console import counted
from edge_runtime.errors import SettingError
from edge_runtime.events import Event, StorageEvent, TextEvent, to_message
from edge_runtime.settings import Secret, Settings, secret_in, setting
from edge_runtime.sinks import Context, disk
from edge_runtime.sinks import homeassistant as ha
from edge_runtime.sinks.lines import is_partial, tell, without_words
from edge_runtime.sinks.spool import Spool
from edge_runtime.system import state_folder

if TYPE_CHECKING:
    from edge_runtime.sinks.broker import Access

IN_FLIGHT = 20
"""Messages on their way at once: as many may come twice after an outage."""
_WAITING = 1_000  # events between the audio and the thread that sends
_SYNC_SECONDS = 30.0
_CLOSING_SECONDS = 3.0  # for what waits, when the program ends; what is left is on disk


@dataclass(frozen=True)
class MqttSettings(Settings):
    """What is sent by MQTT, and where to."""

    broker: str | None = setting(
        None,
        "Send events to this broker: mqtt://HOST[:PORT], or mqtts:// with TLS.",
        metavar="ADDRESS",
        main=True,
    )
    user: str | None = setting(None, "User of the broker.")
    password: Secret | None = setting(None, "Its password.")
    password_file: Path | None = setting(None, "File whose first line is the password.")
    ca_file: Path | None = setting(
        None, "Certificates of the CA of mqtts://, PEM; by default those of the system."
    )
    certificate_file: Path | None = setting(None, "Certificate of this device, PEM.")
    key_file: Path | None = setting(None, "Key of that certificate, PEM, not encrypted.")
    insecure: bool = setting(False, "Do not check who the broker is: anybody may read along.")
    topic: str = setting("edge-emotion", "What topics begin with.")
    name: str | None = setting(None, "Name of this device there; by default --name.")
    text: bool = setting(False, "Send the words, too. They are then in the buffer and the broker.")
    partial: bool = setting(False, "Send what is said of running utterances, too.")
    discovery: bool = setting(True, "Have Home Assistant find this device.")
    discovery_prefix: str = setting("homeassistant", "Topic on which Home Assistant looks.")
    buffer: Path | None = setting(
        None, "Folder of messages that wait; by default in the user's or the service's state."
    )
    buffer_mb: float = setting(16.0, "What waits at most, MB; the oldest goes.", minimum=0.1)
    buffer_hours: float = setting(72.0, "How long it waits at most, hours.", above=0)


def open_mqtt(settings: MqttSettings, context: Context) -> MqttSink | None:
    """A sink where a broker is named, else None. Raises what MqttSink does."""
    return None if settings.broker is None else MqttSink(settings, context)


def check(settings: MqttSettings) -> tuple[bool, str]:
    """Whether the broker lets this device in, within a few seconds; what helps where not.

    Raises SettingError for settings that cannot work, MissingPackageError without paho-mqtt.
    """
    from edge_runtime.sinks.broker import try_access

    return try_access(_access(settings))


def check_buffer(settings: MqttSettings) -> tuple[bool | None, str]:
    """Whether messages can wait on disk, and have room there; see `disk.check`."""
    return disk.check(
        _buffer(settings), settings.buffer_mb, "*", "--mqtt-buffer", "--mqtt-buffer-mb"
    )


def forget(settings: MqttSettings, context: Context) -> tuple[bool, str]:
    """Take this device off the broker, and so out of Home Assistant; as `check`."""
    from edge_runtime.sinks.broker import try_access

    topics = Topics.of(settings, context)
    retained = (topics.config, topics.state, topics.availability)
    return try_access(_access(settings), [(topic, b"") for topic in retained])


@dataclass(frozen=True)
class Topics:
    """The topics of one device."""

    device: ha.Device
    base: str
    """What its own begin with."""
    config: str
    """Its description for Home Assistant."""
    birth: str
    """On which Home Assistant says that it is there."""

    @classmethod
    def of(cls, settings: MqttSettings, context: Context) -> Topics:
        """Those of a device; SettingError for a prefix that is none."""
        for name in ("topic", "discovery_prefix"):
            prefix = getattr(settings, name)
            if not re.fullmatch(r"[^/#+\0$\ud800-\udfff][^#+\0\ud800-\udfff]*(?<!/)", prefix):
                raise SettingError(
                    f"mqtt.{name}: expected a topic without # and +, and no / at its ends, not "
                    f"{prefix!r}"
                )
        name = settings.name or context.name
        device = ha.Device(slug(name), name, context.version, context.bundle, context.labels)
        config = ha.config_topic(settings.discovery_prefix, device)
        birth = ha.birth_topic(settings.discovery_prefix)
        return cls(device, f"{settings.topic}/{device.id}", config, birth)

    def event(self, kind: str) -> str:
        """Of the events of one type."""
        return f"{self.base}/event/{kind}"

    @property
    def state(self) -> str:
        """What the device is at, retained."""
        return f"{self.base}/state"

    @property
    def availability(self) -> str:
        """Whether it is there, retained."""
        return f"{self.base}/availability"


def slug(name: str) -> str:
    """A name as it is in topics: a to z, digits and -; a number where none of it is left."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    result = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return result or f"device-{zlib.crc32(name.encode(errors='surrogatepass')):08x}"


class MqttSink:
    """Messages on their way to a broker; `write` only hands over, a thread does the rest.

    Every message is on disk before it is sent, and until the broker has acknowledged it. A broker
    that is away, or refuses, is waited for and told once; nothing ends the program.
    """

    def __init__(self, settings: MqttSettings, context: Context) -> None:
        """SettingError for settings that cannot work, MissingPackageError without paho-mqtt."""
        from edge_runtime.sinks.broker import Connection

        where = _access(settings)
        self.queued = 0
        """Messages that the broker does not have yet."""
        self._settings, self._topics = settings, Topics.of(settings, context)
        self._place = where.place
        self._state = ha.State(settings.text)
        self._overflow = 0  # events that the thread did not get to
        self._faulty = 0  # events that could not be sent, which is a fault of ours
        self._failed = False  # whether such a fault was told
        self._turn = Condition()
        self._events: deque[tuple[Event, datetime]] = deque()
        self._calls: deque[Callable[[], None]] = deque()  # what the connection says
        self._closing: float | None = None  # until when
        # From here on, of the thread alone.
        folder = _buffer(settings)
        self._spool = Spool(folder, settings.buffer_mb, settings.buffer_hours)
        self._session = 0  # of the connection that may be sent to
        self._state_due = True
        self._on_its_way: dict[int, int] = {}  # number in the spool, by that of the client
        self._resending = False
        self._trouble = ""  # of the connection
        self._buffer_trouble = ""
        self._dropping_told = False
        later = self._later
        self._connection = Connection(
            where,
            f"edge-emotion-{self._topics.device.id}",
            (self._topics.availability, ha.OFFLINE),
            connected=lambda session: later(lambda: self._begin(session)),
            arrived=lambda number: later(lambda: self._arrived(number)),
            received=lambda topic, payload: later(lambda: self._received(topic, payload)),
            told=lambda trouble: later(lambda: self._tell(trouble)),
        )
        self.stored = self._kept(folder)
        """What is kept while the broker is away, where, and for how long."""
        self._introduce()
        self._thread = Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()
        self._connection.start()

    @property
    def dropped(self) -> int:
        """Messages that were given up: no room, too old, or a fault of ours."""
        return self._overflow + self._faulty + self._spool.dropped

    @property
    def damaged(self) -> int:
        """Messages of the buffer that could not be read any more."""
        return self._spool.damaged

    @property
    def reconnects(self) -> int:
        """How often the connection was made again."""
        return max(0, self._connection.sessions - 1)

    def write(self, event: Event) -> None:
        """Hand over one event; never waits."""
        at = datetime.now(UTC)
        with self._turn:
            if len(self._events) >= _WAITING:
                self._events.popleft()
                self._overflow += 1
            self._events.append((event, at))
            self._turn.notify_all()

    def close(self) -> None:
        """Send what waits, for up to three seconds where the broker takes it; the rest is kept."""
        with self._turn:
            self._closing = time.monotonic() + _CLOSING_SECONDS
            self._turn.notify_all()
        self._thread.join(2 * _CLOSING_SECONDS)

    def _later(self, call: Callable[[], None]) -> None:
        with self._turn:
            self._calls.append(call)
            self._turn.notify_all()

    def _run(self) -> None:
        synced = time.monotonic()
        while True:
            with self._turn:
                if not self._events and not self._calls:
                    self._turn.wait(_SYNC_SECONDS if self._closing is None else 0.1)
                calls, self._calls = self._calls, deque()
                events, self._events = self._events, deque()
            for call in calls:
                self._try(call)
            for event, at in events:
                self._faulty += not self._try(partial(self._keep, event, at))
            self._try(self._send)
            self.queued = self._spool.queued
            if time.monotonic() - synced >= _SYNC_SECONDS:
                self._spool.sync()
                synced = time.monotonic()
            self._tell_of_buffer()
            if self._closing is not None and not events and not calls and self._may_end():
                break
        self._try(self._end)

    def _try(self, work: Callable[[], None]) -> bool:
        """Whether it could be done. A fault of ours costs this, and not all that follows."""
        try:
            work()
        except Exception as error:
            if not self._failed:
                _say(f"internal error: {type(error).__name__}: {error}")
            self._failed = True
            return False
        return True

    def _may_end(self) -> bool:
        assert self._closing is not None
        arrived = not self._spool.queued and not self._state_due
        return arrived or bool(self._trouble) or time.monotonic() > self._closing

    def _end(self) -> None:
        if self._ready():
            self._connection.publish(self._topics.availability, ha.OFFLINE, retain=True)
        self._connection.close(1.0)
        self._spool.close()
        if self._spool.queued:
            wait = counted(self._spool.queued, "message waits", "messages wait")
            _say(f"{wait} in {self._spool.folder} for the next start")

    def _keep(self, event: Event, at: datetime) -> None:
        self._state_due |= self._state.update(event)
        sent = self._allowed(event)
        if sent is None:
            return
        self._spool.append(self._topics.event(sent.type), ha.encoded(to_message(sent, at)))

    def _allowed(self, event: Event) -> Event | None:
        """As much of an event as may be sent; None for nothing."""
        settings = self._settings
        if is_partial(event) and not settings.partial:
            return None
        if settings.text:
            return event
        return None if isinstance(event, TextEvent) else without_words(event)

    def _ready(self) -> bool:
        return self._connection.open and self._session == self._connection.sessions

    def _send(self) -> None:
        if not self._ready():
            return
        if self._state_due:
            self._state_due = False
            self._connection.publish(self._topics.state, self._state.message(), retain=True)
        while len(self._on_its_way) < IN_FLIGHT and not self._resending:
            record = self._spool.take()
            if record is None:
                return
            number = self._connection.publish(record.topic, record.payload)
            self._on_its_way[number] = record.number

    def _begin(self, session: int) -> None:
        """The connection is there: what was on its way is sent again first, by the client."""
        self._session = session
        self._resending = bool(self._on_its_way)
        if not self._ready():
            return
        if self._settings.discovery:
            self._connection.subscribe(self._topics.birth)
        self._announce()

    def _announce(self) -> None:
        topics = self._topics
        if self._settings.discovery:
            message = ha.discovery(
                topics.device, topics.state, topics.availability, self._settings.text
            )
            self._connection.publish(topics.config, message, retain=True)
        self._connection.publish(topics.availability, ha.ONLINE, retain=True)
        self._state_due = True

    def _received(self, topic: str, payload: bytes) -> None:
        if topic == self._topics.birth and payload == ha.ONLINE.encode() and self._ready():
            self._announce()

    def _arrived(self, number: int) -> None:
        kept = self._on_its_way.pop(number, None)
        if kept is not None:
            self._spool.done(kept)
        self._resending = self._resending and bool(self._on_its_way)

    def _tell(self, trouble: str) -> None:
        if trouble:
            _say(trouble)
        elif self._trouble:
            waited = counted(self._spool.queued, "message")
            _say(f"connected to {self._place}; {waited} waited")
            self._dropping_told = False
        self._trouble = trouble

    def _tell_of_buffer(self) -> None:
        spool = self._spool
        if spool.trouble != self._buffer_trouble:
            self._buffer_trouble = spool.trouble
            _say(
                f"the buffer {spool.folder} takes no message ({spool.trouble}); what waits is kept "
                "in memory, the newest thousand"
                if spool.trouble
                else f"the buffer {spool.folder} takes messages again"
            )
        old = self.dropped - self._faulty
        if old and not self._dropping_told:
            self._dropping_told = True
            _say(
                f"{old} of the oldest messages are dropped, and more may be: the buffer "
                f"{spool.folder} is full (mqtt.buffer_mb, mqtt.buffer_hours, or the disk)"
            )

    def _kept(self, folder: Path) -> StorageEvent:
        settings = self._settings
        message = (
            f"{'words' if settings.text else 'events, without the words,'} are sent to "
            f"{self._place}, and while it is away kept in {folder}, at most "
            f"{settings.buffer_mb:g} MB for {settings.buffer_hours:g} h"
        )
        days = settings.buffer_hours / 24
        return StorageEvent(
            0.0, "messages", settings.text, str(folder), settings.buffer_mb, days, message
        )

    def _introduce(self) -> None:
        """What whoever starts this should know."""
        settings = self._settings
        if settings.text:
            _say(self.stored.message)
        if settings.insecure:
            _say(f"nobody checks who {self._place} is (mqtt.insecure)")
        if self.damaged:
            damaged = counted(self.damaged, "message")
            _say(f"{damaged} at least in {self._spool.folder} cannot be read any more, and skipped")


def _buffer(settings: MqttSettings) -> Path:
    return settings.buffer or state_folder("mqtt")


def _access(settings: MqttSettings) -> Access:
    from edge_runtime.sinks.broker import access

    password = settings.password
    if settings.password_file is not None:
        password = secret_in(settings.password_file, "mqtt.password_file")
    return access(
        settings.broker or "",
        settings.user,
        password,
        settings.ca_file,
        settings.certificate_file,
        settings.key_file,
        settings.insecure,
    )


def _say(text: str) -> None:
    tell(f"mqtt: {text}")
