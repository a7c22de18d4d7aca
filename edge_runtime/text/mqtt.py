"""Words from an MQTT topic: each message is one line of `edge_runtime.text.given`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from edge_runtime.errors import MissingPackageError, TextError
from edge_runtime.text import without_password

try:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.enums import CallbackAPIVersion
    from paho.mqtt.reasoncodes import ReasonCode
except ImportError:
    raise MissingPackageError("words from MQTT", "paho-mqtt", "mqtt") from None

_PORT = 1883
_LONGEST_PAUSE = 30  # seconds between two attempts to reach a broker that is gone, at most


class MqttFeed:
    """A subscription to mqtt://[USER:PASSWORD@]HOST[:PORT]/TOPIC; reconnects by itself.

    What was published while the broker or the way to it was gone is lost. That it is gone, refuses,
    or is back is told.
    """

    waits = False  # a broker that is held up ends the connection
    repeats = False

    def __init__(self, url: str) -> None:
        """TextError for an address of another form, and for a topic that stands for several."""
        shown = without_password(url)
        wrong = TextError(f"{shown}: expected mqtt://HOST[:PORT]/TOPIC")
        try:
            url.encode()
            address = urlsplit(url)
            self._host, self._port = address.hostname, address.port or _PORT
        except ValueError:
            raise wrong from None
        place = url.removeprefix("mqtt://")
        # Not the path: what follows a # or ? is part of a topic, too.
        self._topic = place[len(address.netloc) :].lstrip("/")
        if not self._host or not self._topic:
            raise wrong
        if "#" in self._topic or "+" in self._topic:
            raise TextError(
                f"{shown}: # and + stand for several topics, and the words of one stream of audio "
                "come from one; name it"
            )
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(max_delay=_LONGEST_PAUSE)
        if address.username:
            self._client.username_pw_set(unquote(address.username), unquote(address.password or ""))
        self._trouble = ""  # the last that was told; nothing while words can come

    def start(
        self,
        line: Callable[[bytes], None],
        end: Callable[[str], None],
        tell: Callable[[bool, str], None],
    ) -> None:
        """See Feed. TextError where the broker does not answer."""

        def trouble(reason: str) -> None:
            # Told once, not with every attempt.
            if reason != self._trouble:
                self._trouble = reason
                tell(False, reason)

        def connected(
            client: Client, _data: object, _flags: object, code: ReasonCode, *_: Any
        ) -> None:
            if code.is_failure:
                trouble(f"the broker refuses: {code}")
            else:
                client.subscribe(self._topic)  # again after every reconnection

        def subscribed(
            _client: Client, _data: object, _id: int, codes: list[ReasonCode], *_: Any
        ) -> None:
            if codes[0].is_failure:
                trouble(f"the broker refuses the topic: {codes[0]}")
            elif self._trouble:
                self._trouble = ""
                tell(True, "it is back")

        def disconnected(
            _client: Client, _data: object, _flags: object, code: ReasonCode, *_: Any
        ) -> None:
            # A refusal ends the connection as well; what it said says more.
            if code.is_failure and not self._trouble:
                trouble("the connection to the broker is lost; it is tried again")

        def received(_client: Client, _data: object, message: MQTTMessage) -> None:
            line(bytes(message.payload))

        self._client.on_connect = connected
        self._client.on_subscribe = subscribed
        self._client.on_disconnect = disconnected
        self._client.on_message = received
        assert self._host is not None
        try:
            self._client.connect(self._host, self._port)
        except (OSError, ValueError) as error:  # ValueError: a name that is none
            raise TextError(f"mqtt://{self._host}:{self._port}: {error}") from None
        self._client.loop_start()

    def stop(self) -> None:
        """See Feed."""
        self._client.disconnect()
        self._client.loop_stop()
