"""A real MQTT broker that a test starts, kills and starts again, and somebody who listens there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

ANYBODY = ("allow_anonymous true",)
PATIENCE = 60.0  # seconds until something hangs


class Mosquitto:
    """A broker on one port of 127.0.0.1, with its files and log in `folder`."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.skip("no mosquitto: apt-get install mosquitto")
        self.folder, self._program = folder, program
        self.port = free_port()
        self._ours = 0  # connections that only looked whether it listens
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *settings: str) -> subprocess.Popen[bytes]:
        """Start it with these lines of configuration, and wait until it listens."""
        config = self.folder / "mosquitto.conf"
        # As root it would become a user that cannot read the folder of a test.
        lines = ["user root", f"listener {self.port} 127.0.0.1", *(settings or ANYBODY), ""]
        config.write_text("\n".join(lines))
        with open(self.folder / "mosquitto.log", "ab") as log:
            process = subprocess.Popen([self._program, "-v", "-c", str(config)], stderr=log)
        self._started.append(process)
        before = self._connections()

        def listens() -> bool:
            assert process.poll() is None, self.log
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return True
            return False

        wait_until(listens)
        wait_until(lambda: self._connections() > before)  # that one
        self._ours += 1
        return process

    @property
    def log(self) -> str:
        """What all of them have logged."""
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    def attempts(self) -> int:
        """Connections that others made so far, also those that TLS refused."""
        return self._connections() - self._ours

    def _connections(self) -> int:
        return len(re.findall("New connection from|Client connection from", self.log))

    def kill(self) -> None:
        """SIGKILL."""
        for process in self._started:
            process.kill()
            process.wait()
        self._started.clear()


class Listener:
    """All that a broker says of some topics, as it comes; back by itself, and at once."""

    def __init__(self, port: int, *topics: str, **how: Any) -> None:
        client = pytest.importorskip("paho.mqtt.client")
        self.heard: list[tuple[str, bytes, bool]] = []
        """Topic, payload, and whether it was retained."""
        # A session that the broker keeps, so that nothing is missed by who is late.
        self._client = client.Client(
            client.CallbackAPIVersion.VERSION2, "listener", clean_session=False
        )
        self._client.on_message = lambda _client, _data, message: self.heard.append(
            (message.topic, bytes(message.payload), message.retain)
        )
        self._subscribed = 0

        def connected(client: Any, *_: Any) -> None:
            client.subscribe([(topic, 1) for topic in topics])

        def subscribed(*_: Any) -> None:
            self._subscribed += 1

        self._client.on_connect, self._client.on_subscribe = connected, subscribed
        self._client.reconnect_delay_set(1, 1)
        if "tls" in how:
            self._client.tls_set(how["tls"])
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()
        wait_until(lambda: self._subscribed > 0)

    def publish(self, topic: str, payload: str) -> None:
        """Say something."""
        self._client.publish(topic, payload, 1).wait_for_publish(PATIENCE)

    def payloads(self, topic: str) -> list[bytes]:
        """What was said on one topic."""
        return [payload for heard, payload, _ in list(self.heard) if heard == topic]

    def seconds(self) -> list[float]:
        """The `t` of every event, in the order in which they came."""
        events = [json.loads(p) for heard, p, _ in list(self.heard) if "/event/" in heard]
        return [event["t"] for event in events]

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()


def wait_until(condition: Any, seconds: float = PATIENCE, say: Any = lambda: "") -> None:
    """Until `condition` holds; fails after a time in which all works that does not hang."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, say()
        time.sleep(0.02)
