"""A connection to an MQTT broker that is made again for as long as it is wanted."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from edge_runtime.errors import MissingPackageError, SettingError

try:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
    from paho.mqtt.reasoncodes import ReasonCode
except ImportError:
    raise MissingPackageError("MQTT", "paho-mqtt", "mqtt") from None

QOS = 1  # at least once
_PORT, _TLS_PORT = 1883, 8883
_KEEPALIVE = 30  # seconds without a word until the broker takes the device for gone: 1.5 times that
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two attempts
_STEADY = 10.0  # seconds after which a connection counts as one that works
_BRIEF = 3  # that many connections in a row that did not hold are a trouble of their own
_CONNECT_SECONDS = 5.0  # for TCP, and again for TLS
_TURN = 1.0  # seconds, at most, until a close is noticed
_CHECK_SECONDS = 8.0
# Of OpenSSL's verification (x509_vfy.h).
_UNKNOWN_CA = (2, 18, 19, 20, 21)
_EXPIRED = (9, 10)
_OTHER_NAME = (62, 64)


@dataclass(frozen=True)
class Access:
    """Where a broker is and how one gets in; what is wrong with it is found here."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    user: str | None
    password: str | None

    @property
    def place(self) -> str:
        """Its address, without what is secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}"


def access(
    address: str,
    user: str | None = None,
    password: str | None = None,
    ca_file: Path | None = None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
    insecure: bool = False,
) -> Access:
    """The access that these settings describe. Raises SettingError for what cannot be one."""
    expected = "expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]"
    # Without what stands before the @: passwords do not belong on a terminal.
    scheme, separator, rest = address.partition("://")
    shown = f"{scheme}{separator}{rest.rpartition('@')[2]}"
    wrong = SettingError(f"mqtt.broker: {expected}, not {shown!r}")
    try:
        address.encode()
        parts = urlsplit(address)
    except ValueError:
        raise wrong from None
    if "@" in parts.netloc:
        raise SettingError(
            f"mqtt.broker {shown}: {expected}; name the user with mqtt.user, and the password with "
            "mqtt.password_file: whoever lists the processes would read it here"
        )
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("mqtt", "mqtts") or not host or port == 0:
        raise wrong
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise SettingError(f"mqtt.broker {shown}: {expected}; the topic is a setting: mqtt.topic")
    if password is not None and user is None:
        raise SettingError("mqtt.password needs mqtt.user: the user whose password it is")
    try:
        f"{user}{password}".encode()
    except UnicodeEncodeError:
        raise SettingError("mqtt.user and mqtt.password must be text in UTF-8") from None
    tls = None
    if parts.scheme == "mqtts":
        tls = _tls(ca_file, certificate_file, key_file, insecure)
    elif ca_file or certificate_file or key_file or insecure:
        raise SettingError(
            f"mqtt.broker {shown} is without TLS, and mqtt.ca_file, certificate_file, key_file and "
            "insecure are for mqtts://"
        )
    return Access(host, port or (_TLS_PORT if tls else _PORT), tls, user, password)


def _tls(
    ca: Path | None, certificate: Path | None, key: Path | None, insecure: bool
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (OSError, ValueError) as error:
        raise SettingError(f"mqtt.ca_file {ca}: expected PEM certificates: {_why(error)}") from None
    if key is not None and certificate is None:
        raise SettingError("mqtt.key_file needs mqtt.certificate_file: the certificate of that key")
    if certificate is not None:
        try:
            # Without a password, or OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError) as error:
            raise SettingError(
                f"mqtt.certificate_file {certificate}, mqtt.key_file {key}: expected a PEM "
                f"certificate and its key, which is not encrypted: {_why(error)}"
            ) from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class Connection:
    """A connection in a thread of its own.

    Tried again after 1, 2, 4 s and so on up to 60 s, also where the broker refuses; from 1 s again
    once it has held for 10 s. The functions that are given are called in that thread, and must
    return at once:

    connected : it is there (again), for the time of that number. What was published and not
        acknowledged is sent again, after this.
    arrived : the broker has the message of that number, as `publish` gave it.
    received : topic and payload of a message.
    told : why there is no connection, or "" where there is one; not with every attempt.
    """

    def __init__(
        self,
        where: Access,
        client_id: str,
        will: tuple[str, str],
        *,
        connected: Callable[[int], None],
        arrived: Callable[[int], None],
        received: Callable[[str, bytes], None],
        told: Callable[[str], None],
    ) -> None:
        self.open = False
        """Whether messages can be published now."""
        self.sessions = 0
        """How often it was made."""
        self._where = where
        self._client = client = _client(where, client_id)
        client.max_inflight_messages = 0  # whoever publishes counts
        client.will_set(will[0], will[1], QOS, retain=True)
        # With this, and only with it, `publish` leaves the socket to the thread of `_run`.
        client.on_socket_register_write = lambda *_: None
        self._connected, self._told = connected, told
        self._trouble: str | None = None
        self._refused: ReasonCode | None = None
        self._since = 0.0  # when it was made, in seconds of time.monotonic
        self._steady = False  # whether the last one held
        self._brief = 0  # how many in a row did not
        self._closing = Flag()
        client.on_connect = self._on_connect
        client.on_publish = lambda _client, _data, number, *_: arrived(number)

        def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
            received(message.topic, bytes(message.payload))

        client.on_message = on_message
        self._thread = Thread(target=self._run, name="mqtt-connection", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def publish(self, topic: str, payload: bytes | str, retain: bool = False) -> int:
        """Send with QoS 1; the number that `arrived` will be called with."""
        return self._client.publish(topic, payload, QOS, retain).mid

    def subscribe(self, topic: str) -> None:
        """Receive a topic, until the connection ends."""
        self._client.subscribe(topic, QOS)

    def close(self, seconds: float) -> None:
        """Say goodbye, so that there is no will; after `seconds` without it."""
        self._closing.set()
        self._client.disconnect()
        self._thread.join(seconds)

    def _on_connect(
        self, _client: Client, _data: object, _flags: object, code: ReasonCode, *_: Any
    ) -> None:
        if code.is_failure:
            self._refused = code
            return
        self._since = time.monotonic()
        self.sessions += 1
        self.open = True
        if self._brief < _BRIEF:
            self._tell("")
        self._connected(self.sessions)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closing.is_set():
            trouble = self._hold()
            if self._closing.is_set():
                return
            if self._steady:
                pause = _FIRST_PAUSE
            self._tell(trouble)
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _hold(self) -> str:
        """Connect, and stay connected for as long as it goes; why it ended."""
        self._refused = None
        was_open = self._steady = False
        try:
            self._client.connect(self._where.host, self._where.port, _KEEPALIVE)
            while self._client.loop(_TURN) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                was_open = was_open or self.open
                if self._closing.is_set():
                    self._client.disconnect()
        except (OSError, ValueError) as error:  # ValueError: a name that is none
            self._brief = 0
            return explain(error, self._where)
        was_open, self.open = was_open or self.open, False
        self._steady = was_open and time.monotonic() - self._since >= _STEADY
        self._brief = self._brief + 1 if was_open and not self._steady else 0
        if self._refused is not None:
            return refusal(self._refused, self._where)
        if not was_open:
            return unanswered(self._where)
        if self._brief >= _BRIEF:
            # Two devices of one name throw each other out.
            return (
                f"{self._where.place} ends every connection soon after it is made; it is tried "
                "again. Is there another device of this name? (mqtt.name)"
            )
        return f"the connection to {self._where.place} is lost; it is tried again"

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._told(trouble)


def _client(where: Access, client_id: str) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, client_id, reconnect_on_failure=False)
    client.connect_timeout = _CONNECT_SECONDS
    if where.tls is not None:
        client.tls_set_context(where.tls)
    if where.user is not None:
        client.username_pw_set(where.user, where.password)
    return client


def explain(error: Exception, where: Access) -> str:
    """Why a broker cannot be reached, and what helps."""
    place = where.place
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _UNKNOWN_CA:
            return (
                f"{place}: its certificate is signed by nobody this device knows; name the file "
                "of its CA: mqtt.ca_file"
            )
        if error.verify_code in _EXPIRED:
            return (
                f"{place}: its certificate is not valid now ({error.verify_message}); renew it, or "
                "set the clock of this device"
            )
        if error.verify_code in _OTHER_NAME:
            return f"{place}: its certificate is for another name; use the name that it is for"
        return f"{place}: its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{place}: no TLS there ({error.reason}); use its TLS port, or mqtt://"
    if isinstance(error, socket.gaierror | ValueError):
        return f"{place}: no such host; check the name, or give its IP address"
    if isinstance(error, ConnectionRefusedError):
        return (
            f"{place}: nothing listens there; start the broker, and have it listen on the network "
            "(mosquitto: listener 1883 in its configuration)"
        )
    if isinstance(error, TimeoutError):
        return f"{place}: no answer; is the host on, the port right, and open in its firewall?"
    return f"{place}: {_why(error)}"


def refusal(code: ReasonCode, where: Access) -> str:
    """Why a broker lets nobody in, and what helps."""
    if str(code) in ("Bad user name or password", "Not authorized"):
        given = f"user {where.user!r} and the password" if where.user else "whoever has no user"
        return f"{where.place} refuses {given}; check mqtt.user and mqtt.password_file"
    return f"{where.place} refuses: {code}"


def unanswered(where: Access) -> str:
    """What helps where a connection ended before the broker said anything."""
    wants = "a certificate (mqtt.certificate_file)" if where.tls else "TLS (mqtts://)"
    return f"{where.place} ends the connection without a word; does it want {wants}?"


def try_access(where: Access, messages: Iterable[tuple[str, bytes]] = ()) -> tuple[bool, str]:
    """Whether a broker lets this device in, within a few seconds, and what helps where not.

    `messages`, topics and payloads, are published there, retained.
    """
    client = _client(where, "")
    codes: list[ReasonCode] = []
    arrived: list[int] = []
    sent: list[int] = []

    def on_connect(
        _client: Client, _data: object, _flags: object, code: ReasonCode, *_: Any
    ) -> None:
        if not code.is_failure:
            sent.extend(client.publish(*message, QOS, retain=True).mid for message in messages)
        codes.append(code)

    client.on_connect = on_connect
    client.on_publish = lambda _client, _data, number, *_: arrived.append(number)
    deadline = time.monotonic() + _CHECK_SECONDS
    try:
        client.connect(where.host, where.port, _KEEPALIVE)
        while not codes or len(arrived) < len(sent):
            if client.loop(0.2) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
            if time.monotonic() > deadline:
                return False, explain(TimeoutError(), where)
        client.disconnect()
    except (OSError, ValueError) as error:
        return False, explain(error, where)
    if codes and codes[0].is_failure:
        return False, refusal(codes[0], where)
    if not codes or len(arrived) < len(sent):
        return False, unanswered(where)
    return True, f"{where.place} lets this device in"
