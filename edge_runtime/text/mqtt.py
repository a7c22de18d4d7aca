"""Words from an MQTT topic: each message is one line of `edge_runtime.text.given`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from edge_runtime.errors import MissingPackageError, TextError

try:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion
except ImportError:
    raise MissingPackageError("words from MQTT", "paho-mqtt", "mqtt") from None

_PORT = 1883


class MqttFeed:
    """A subscription to mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC; reconnects by itself."""

    waits = False  # a broker that is held up ends the connection
    repeats = False

    def __init__(self, url: str) -> None:
        """TextError for an address of another form."""
        parts = urlsplit(url)
        self._topic = parts.path.lstrip("/")
        try:
            self._host, self._port = parts.hostname, parts.port or _PORT
        except ValueError:
            self._host, self._port = None, 0
        if not self._host or not self._topic:
            # Without what stands before the @: passwords do not belong on a terminal.
            shown = f"mqtt://{url.removeprefix('mqtt://').rpartition('@')[2]}"
            raise TextError(f"{shown}: expected mqtt://HOST[:PORT]/TOPIC")
        self._client = Client(CallbackAPIVersion.VERSION2)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))

    def start(self, line: Callable[[bytes], None], end: Callable[[str], None]) -> None:
        """See Feed. TextError where the broker does not answer."""

        def connected(client: Client, *_: Any) -> None:
            client.subscribe(self._topic)  # again after every reconnection

        def received(_client: Client, _data: object, message: MQTTMessage) -> None:
            line(bytes(message.payload))

        self._client.on_connect = connected
        self._client.on_message = received
        assert self._host is not None
        try:
            self._client.connect(self._host, self._port)
        except OSError as error:
            raise TextError(f"mqtt://{self._host}:{self._port}: {error}") from None
        self._client.loop_start()

    def stop(self) -> None:
        """See Feed."""
        self._client.disconnect()
        self._client.loop_stop()
