"""Events by MQTT through a real mosquitto that is killed, restarted, strict, encrypted, or away."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mosquitto import ANYBODY, Listener, Mosquitto, wait_until

from edge_runtime.events import (
    EmotionEvent,
    HealthEvent,
    RevisedEvent,
    SourceEvent,
    SpeechStartEvent,
    TextEvent,
)
from edge_runtime.settings import Secret
from edge_runtime.sinks import Context

pytest.importorskip("paho")

from edge_runtime.sinks.mqtt import (
    IN_FLIGHT,
    MqttSettings,
    MqttSink,
    check,
    forget,
    open_mqtt,
)

OUTAGE = float(os.environ.get("TEST_OUTAGE", "8"))  # seconds without a broker
CONTEXT = Context("Küche 1", "1.2.3", "default", ("angry", "happy", "neutral", "sad"))
BASE = "edge-emotion/kuche-1"
# Sessions of listeners are there after SIGKILL, too, once SIGUSR1 came.
KEEPS_SESSIONS = "persistence true\npersistence_location {}/"

Open = Callable[..., MqttSink]


@pytest.fixture
def sink(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Open]:
    """Opens sinks to the broker, closed at the end."""
    opened: list[MqttSink] = []

    def run(**changed: Any) -> MqttSink:
        values = {"broker": f"mqtt://127.0.0.1:{mosquitto.port}", "buffer": tmp_path / "buffer"}
        opened.append(MqttSink(MqttSettings(**(values | changed)), CONTEXT))
        return opened[-1]

    yield run
    for one in opened:
        one.close()


@contextlib.contextmanager
def listener(port: int, *topics: str, **how: Any) -> Iterator[Listener]:
    one = Listener(port, *(topics or ("edge-emotion/#", "homeassistant/#")), **how)
    yield one
    one.close()


def health(t: float, **more: float) -> HealthEvent:
    return HealthEvent(t, more.get("dropped_ms", 0.0), 0, 0.01, 40.0)


def emotion(t: float, label: str = "happy", final: bool = True) -> EmotionEvent:
    scores = {"angry": 0.1, "happy": 0.7, "neutral": 0.1, "sad": 0.1}
    return EmotionEvent(t, final, t - 1, t, label, 0.7, scores, "so happy")


def last_state(heard: Listener) -> dict[str, Any]:
    states = heard.payloads(f"{BASE}/state")
    return dict(json.loads(states[-1])) if states else {}


def test_events_flow_the_state_follows_and_availability_is_told(
    mosquitto: Mosquitto, sink: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    mosquitto.start()
    with listener(mosquitto.port) as heard:
        one = sink()
        for event in (SourceEvent(0.0, "mic"), SpeechStartEvent(1.0)):
            one.write(event)
        wait_until(lambda: last_state(heard).get("speaking") == "ON")
        one.write(emotion(1.5, "sad", final=False))
        one.write(emotion(2.0))
        one.write(TextEvent(2.1, "so happy", True, "somebody"))
        one.write(RevisedEvent(3.0, True, 1.0, 2.0, "angry", 0.9, emotion(0).scores, "so happy"))
        one.write(health(4.0, dropped_ms=12.0))
        wait_until(lambda: last_state(heard).get("dropped_ms") == 12)
        wait_until(lambda: heard.seconds()[-1:] == [4.0])
        one.close()
        wait_until(lambda: heard.payloads(f"{BASE}/availability")[-1:] == [b"offline"])
    assert heard.payloads(f"{BASE}/availability") == [b"online", b"offline"]
    assert heard.seconds() == [0.0, 1.0, 2.0, 3.0, 4.0]
    (said,) = heard.payloads(f"{BASE}/event/emotion")
    message = json.loads(said)
    assert message["type"] == "emotion"
    assert message["time"].endswith("Z")
    # No words without being asked for, and nothing of running utterances.
    assert b"so happy" not in b"".join(payload for _, payload, _ in heard.heard)
    assert last_state(heard) == {
        "emotion": "angry",
        "confidence_percent": 90.0,
        "speaking": "OFF",
        "dropped_ms": 12,
        "temperature_c": None,
        "real_time_factor": 0.01,
    }
    assert (one.queued, one.dropped, one.reconnects) == (0, 0, 0)
    assert capsys.readouterr().err == ""


def test_words_and_partial_verdicts_are_sent_where_asked_for(
    mosquitto: Mosquitto, sink: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    mosquitto.start()
    with listener(mosquitto.port) as heard:
        one = sink(text=True, partial=True)
        one.write(emotion(1.0, final=False))
        one.write(TextEvent(1.5, "so", False, "somebody"))
        one.write(emotion(2.0))
        wait_until(lambda: heard.seconds() == [1.0, 1.5, 2.0])
        wait_until(lambda: last_state(heard).get("text") == "so happy")
    assert "words are sent to" in capsys.readouterr().err


def test_what_no_utf8_has_holds_nothing_up(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """Half a surrogate pair: of words that somebody else sends, of a name that is no UTF-8."""
    mosquitto.start()
    context = replace(CONTEXT, name="Küche \ud83d 1")
    settings = MqttSettings(
        broker=f"mqtt://127.0.0.1:{mosquitto.port}", buffer=tmp_path / "buffer", text=True
    )
    with listener(mosquitto.port) as heard, closing(MqttSink(settings, context)) as one:
        one.write(replace(emotion(2.0), text="so \ud83d happy"))
        wait_until(lambda: last_state(heard).get("text") == "so ? happy")
        config = "homeassistant/device/kuche-1/config"
        wait_until(lambda: heard.payloads(config))
        assert json.loads(heard.payloads(config)[0])["device"]["name"] == "Küche ? 1"
        (said,) = heard.payloads(f"{BASE}/event/emotion")
        assert json.loads(said)["text"] == "so ? happy"


def test_an_event_that_cannot_be_sent_costs_itself_alone(
    mosquitto: Mosquitto, sink: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    mosquitto.start()
    faulty: Any = SourceEvent(0.0, b"no name")  # type: ignore[arg-type]
    with listener(mosquitto.port) as heard:
        one = sink()
        for event in (health(1.0), faulty, health(2.0), faulty, health(3.0)):
            one.write(event)
        wait_until(lambda: heard.seconds() == [1.0, 2.0, 3.0])
        assert one.dropped == 2
    (fault,) = capsys.readouterr().err.splitlines()
    assert "internal error: TypeError" in fault


@pytest.mark.realtime
def test_a_broker_that_is_killed_gets_all_afterwards_in_order(
    mosquitto: Mosquitto, sink: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    keeps_sessions = KEEPS_SESSIONS.format(mosquitto.folder)
    broker = mosquitto.start(*ANYBODY, keeps_sessions)
    with listener(mosquitto.port, "edge-emotion/#") as heard:
        broker.send_signal(signal.SIGUSR1)  # from here on it knows the listener after SIGKILL, too
        wait_until(lambda: (mosquitto.folder / "mosquitto.db").exists())
        one = sink()
        number = 0

        def flow(until: Callable[[], bool]) -> None:
            nonlocal number
            deadline = time.monotonic() + 2 * OUTAGE + 90
            while not until():
                assert time.monotonic() < deadline, (heard.seconds()[-1:], number)
                one.write(SpeechStartEvent(float(number)))
                number += 1
                time.sleep(0.01)

        flow(lambda: len(heard.seconds()) > 100)
        mosquitto.kill()
        back = time.monotonic() + OUTAGE
        flow(lambda: time.monotonic() > back)
        assert one.queued > 100
        mosquitto.start(*ANYBODY, keeps_sessions)
        flow(lambda: heard.seconds()[-1] > number - 50)
        wait_until(lambda: one.queued == 0)
        wait_until(lambda: heard.seconds()[-1] == number - 1)
    seconds = heard.seconds()
    assert sorted(set(seconds)) == list(range(number))
    twice = len(seconds) - number
    assert twice <= IN_FLIGHT
    # In order: also what came twice, which is sent again in order.
    steps = [b - a for a, b in itertools.pairwise(seconds)]
    assert sum(step < 0 for step in steps) <= 1
    assert one.dropped == 0
    assert one.reconnects == 1
    with capsys.disabled():
        print(f"\noutage {OUTAGE:g} s: {number} events, all arrived, {twice} twice")
    err = capsys.readouterr().err.splitlines()
    assert "is lost; it is tried again" in err[0]
    assert len(err) <= 3  # lost, refused, connected


CHILD = """
import sys, time
from pathlib import Path
from edge_runtime.events import SpeechStartEvent
from edge_runtime.sinks import Context
from edge_runtime.sinks.mqtt import MqttSettings, MqttSink
port, folder, count, pause = sys.argv[1:]
sink = MqttSink(
    MqttSettings(broker=f"mqtt://127.0.0.1:{port}", buffer=Path(folder)),
    Context("Kuche 1", "1.2.3", "default", ("angry", "happy")),
)
for number in range(int(count)):
    sink.write(SpeechStartEvent(float(number)))
    time.sleep(float(pause))
while float(pause) == 0 and sink.queued < int(count):
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(600)
"""


def start_child(port: int, folder: Path, count: int, pause: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(port), str(folder), str(count), str(pause)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_what_a_killed_process_had_in_its_buffer_arrives_after_the_restart(
    mosquitto: Mosquitto, sink: Open, tmp_path: Path
) -> None:
    child = start_child(mosquitto.port, tmp_path / "buffer", 300, 0)
    assert child.stdout
    assert child.stdout.readline() == "ready\n"
    child.kill()
    child.wait()
    mosquitto.start()
    with listener(mosquitto.port) as heard:
        one = sink()
        one.write(health(1000.0))
        wait_until(lambda: heard.seconds()[-1:] == [1000.0])
        wait_until(lambda: one.queued == 0)
    assert heard.seconds() == [*range(300), 1000.0]
    assert (one.dropped, one.damaged) == (0, 0)


def test_a_process_killed_while_it_sends_is_offline_and_loses_nothing(
    mosquitto: Mosquitto, sink: Open, tmp_path: Path
) -> None:
    mosquitto.start()
    with listener(mosquitto.port) as heard:
        child = start_child(mosquitto.port, tmp_path / "buffer", 10_000, 0.001)
        wait_until(lambda: len(heard.seconds()) > 200)
        child.kill()
        child.wait()
        wait_until(lambda: heard.payloads(f"{BASE}/availability")[-1:] == [b"offline"])
        one = sink()
        wait_until(lambda: heard.payloads(f"{BASE}/availability")[-1:] == [b"online"])
        one.write(health(20_000.0))
        wait_until(lambda: heard.seconds()[-1:] == [20_000.0])
    seconds = heard.seconds()[:-1]
    assert sorted(set(seconds)) == list(range(int(max(seconds)) + 1))
    assert len(seconds) - len(set(seconds)) <= IN_FLIGHT


@pytest.mark.realtime
def test_a_wrong_password_is_one_line_and_no_storm(
    mosquitto: Mosquitto, sink: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = shutil.which("mosquitto_passwd")
    assert program
    users = tmp_path / "users"
    subprocess.run([program, "-b", "-c", str(users), "device", "right"], check=True)
    mosquitto.start("allow_anonymous false", f"password_file {users}")
    one = sink(user="device", password=Secret("wrong"))
    one.write(health(1.0))
    time.sleep(8)
    # After 0, 1, 3 and 7 s.
    assert 2 <= mosquitto.attempts() <= 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"mqtt://127.0.0.1:{mosquitto.port} refuses user 'device' and the password; "
        "check mqtt.user and mqtt.password_file"
    )
    assert "wrong" not in line
    one.close()
    assert capsys.readouterr().err.endswith("for the next start\n")
    (tmp_path / "password").write_text("right\n")
    again = sink(user="device", password_file=tmp_path / "password")
    wait_until(lambda: again.queued == 0)
    settings = MqttSettings(broker=f"mqtt://127.0.0.1:{mosquitto.port}", user="device")
    assert check(settings)[0] is False
    assert "check mqtt.user" in check(settings)[1]


def make_ca(folder: Path, name: str) -> tuple[Path, Path, Path]:
    """A CA's certificate, and certificate and key of 127.0.0.1 that it signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl: apt-get install openssl")
    ca, ca_key = folder / f"{name}-ca.pem", folder / f"{name}-ca.key"
    server, key = folder / f"{name}.pem", folder / f"{name}.key"
    request, extension = folder / f"{name}.csr", folder / f"{name}.ext"
    extension.write_text("subjectAltName=IP:127.0.0.1\n")
    signer = ["-CA", ca, "-CAkey", ca_key, "-CAcreateserial"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
        ["req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-subj", f"/CN={name} CA"],
        ["req", *curve, "-keyout", key, "-out", request, "-subj", f"/CN={name}"],
        ["x509", "-req", "-in", request, "-out", server, "-extfile", extension, *signer],
    ):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return ca, server, key


@pytest.mark.realtime
def test_tls_with_the_right_ca_and_one_line_for_a_wrong_one(
    mosquitto: Mosquitto, sink: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca, server, key = make_ca(tmp_path, "broker")
    other, device, device_key = make_ca(tmp_path, "other")
    tls = (f"certfile {server}", f"keyfile {key}")
    mosquitto.start(*tls, *ANYBODY)
    address = f"mqtts://127.0.0.1:{mosquitto.port}"
    one = sink(broker=address, ca_file=other)
    one.write(health(1.0))
    time.sleep(4)
    assert 2 <= mosquitto.attempts() <= 3  # after 0, 1 and 3 s
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        f"{address}: its certificate is signed by nobody this device knows; name the file of its "
        "CA: mqtt.ca_file"
    )
    one.close()
    with listener(mosquitto.port, "edge-emotion/#", tls=str(ca)) as heard:
        again = sink(broker=address, ca_file=ca)
        wait_until(lambda: heard.seconds() == [1.0])
        again.close()
    capsys.readouterr()
    ok, found = check(MqttSettings(broker=address, ca_file=ca))
    assert (ok, found) == (True, f"{address} lets this device in")
    for settings, remedy in (
        (MqttSettings(broker=address), "name the file of its CA: mqtt.ca_file"),
        (MqttSettings(broker=f"mqtt://127.0.0.1:{mosquitto.port}"), "TLS (mqtts://)"),
        (
            MqttSettings(broker=f"mqtts://localhost:{mosquitto.port}", ca_file=ca),
            "use the name that it is for",
        ),
    ):
        ok, found = check(settings)
        assert not ok
        assert remedy in found
    assert check(MqttSettings(broker=address, insecure=True))[0]
    # A broker that wants to know who the device is.
    mosquitto.kill()
    mosquitto.start(*tls, f"cafile {other}", "require_certificate true", *ANYBODY)
    ok, found = check(MqttSettings(broker=address, ca_file=ca))
    assert not ok
    assert "mqtt.certificate_file" in found
    settings = MqttSettings(
        broker=address, ca_file=ca, certificate_file=device, key_file=device_key
    )
    assert check(settings)[0]


def test_a_broker_that_is_not_there_is_waited_for_and_told_once(
    mosquitto: Mosquitto, sink: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"mqtt://127.0.0.1:{mosquitto.port}"
    ok, found = check(MqttSettings(broker=address))
    assert not ok
    assert "nothing listens there; start the broker" in found
    one = sink()
    one.write(health(1.0))
    time.sleep(1.5)
    mosquitto.start()
    with listener(mosquitto.port) as heard:
        # It may have been faster than the listener; then the second is heard.
        one.write(health(2.0))
        wait_until(lambda: 2.0 in heard.seconds() or one.queued == 0)
    wait_until(lambda: one.queued == 0)
    away, there = capsys.readouterr().err.splitlines()
    assert "nothing listens there" in away
    assert f"connected to {address}" in there


def test_a_stopped_broker_holds_up_no_event_and_no_end(mosquitto: Mosquitto, sink: Open) -> None:
    broker = mosquitto.start()
    one = sink()
    one.write(health(0.0))
    wait_until(lambda: one.queued == 0 and not one._state_due)
    broker.send_signal(signal.SIGSTOP)
    try:
        begin = time.monotonic()
        for number in range(500):
            one.write(health(float(number)))
        assert time.monotonic() - begin < 2  # a millisecond, where nobody waits
        wait_until(lambda: one.queued == 500)
        begin = time.monotonic()
        one.close()
        assert time.monotonic() - begin < 8
    finally:
        broker.send_signal(signal.SIGCONT)


def test_a_full_buffer_sends_the_newest_and_counts_the_rest(
    mosquitto: Mosquitto, sink: Open, capsys: pytest.CaptureFixture[str]
) -> None:
    one = sink(buffer_mb=0.1)
    for begin in range(0, 2000, 500):
        for number in range(begin, begin + 500):
            one.write(health(float(number)))
        wait_until(lambda begin=begin: one.queued + one.dropped == begin + 500)
    dropped = one.dropped
    assert dropped > 1000
    mosquitto.start()
    with listener(mosquitto.port) as heard:
        wait_until(lambda: one.queued == 0)
        one.write(health(2000.0))
        wait_until(lambda: heard.seconds()[-1:] == [2000.0])
    seconds = heard.seconds()
    assert seconds == list(range(2001 - len(seconds), 2001))
    assert "of the oldest messages are dropped" in capsys.readouterr().err
    assert one.dropped == dropped


# What Home Assistant documents: https://www.home-assistant.io/integrations/mqtt/ (device discovery
# payload, origin, availability), sensor.mqtt, binary_sensor.mqtt, sensor and binary_sensor (device
# classes with their units), and developers.home-assistant.io (state classes, entity categories).
ROOT_KEYS = {
    "device": dict,
    "origin": dict,
    "components": dict,
    "state_topic": str,
    "availability_topic": str,
    "payload_available": str,
    "payload_not_available": str,
    "qos": int,
}
DEVICE_KEYS = {"identifiers", "name", "manufacturer", "model", "sw_version"}
ORIGIN_KEYS = {"name", "sw_version", "support_url"}
ENTITY_KEYS = {"platform", "name", "unique_id", "value_template", "device_class", "icon"}
ENTITY_KEYS |= {"entity_category", "enabled_by_default", "expire_after", "force_update"}
PLATFORM_KEYS = {
    "sensor": ENTITY_KEYS
    | {"state_class", "unit_of_measurement", "options", "suggested_display_precision"},
    "binary_sensor": ENTITY_KEYS | {"payload_on", "payload_off", "off_delay"},
}
UNITS = {  # of the device classes of sensors, and None where there is no class
    "enum": {None},
    "duration": {"d", "h", "min", "s", "ms", "μs"},
    "temperature": {"°C", "°F", "K"},
    None: {None, "%"},
}
STATE_CLASSES = {  # by device class; enum must have none
    "enum": {None},
    "duration": {None, "measurement", "total", "total_increasing"},
    "temperature": {None, "measurement"},
    None: {None, "measurement"},
}
BINARY_CLASSES = {"sound", "occupancy", "running", "problem"}


def check_discovery(payload: bytes) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(payload)
    assert {"device", "origin", "components"} <= message.keys() <= ROOT_KEYS.keys()
    assert all(isinstance(message[key], ROOT_KEYS[key]) for key in message)
    assert message["device"].keys() <= DEVICE_KEYS
    assert message["device"]["identifiers"]
    assert "name" in message["origin"].keys() <= ORIGIN_KEYS
    unique = []
    for component in message["components"].values():
        platform = component["platform"]
        if component.keys() == {"platform"}:
            continue  # takes an entity away
        assert component.keys() <= PLATFORM_KEYS[platform]
        unique.append(component["unique_id"])
        assert component.get("entity_category") in (None, "diagnostic")
        device_class = component.get("device_class")
        if platform == "binary_sensor":
            assert device_class in BINARY_CLASSES
            continue
        assert component.get("unit_of_measurement") in UNITS[device_class]
        assert component.get("state_class") in STATE_CLASSES[device_class]
        assert ("options" in component) == (device_class == "enum")
    assert len(set(unique)) == len(unique)
    return message


def test_home_assistant_finds_one_device_whose_state_fits_its_description(
    mosquitto: Mosquitto, sink: Open
) -> None:
    mosquitto.start()
    config = "homeassistant/device/kuche-1/config"
    one = sink(text=True)
    wait_until(lambda: one.queued == 0 and not one._state_due)
    with listener(mosquitto.port) as heard:
        wait_until(lambda: {config, f"{BASE}/state"} <= {topic for topic, _, _ in heard.heard})
        # A Home Assistant that comes later finds all of it.
        assert all(retained for topic, _, retained in heard.heard if "/event/" not in topic)
        message = check_discovery(heard.payloads(config)[0])
        assert message["device"]["name"] == "Küche 1"
        assert message["availability_topic"] == f"{BASE}/availability"
        assert heard.payloads(message["availability_topic"]) == [b"online"]
        assert list(message["components"]) == [
            "emotion",
            "confidence",
            "speaking",
            "dropped_audio",
            "temperature",
            "real_time_factor",
            "text",
        ]
        emotions = message["components"]["emotion"]["options"]
        assert emotions == [*CONTEXT.labels, "unsure"]
        one.write(emotion(1.0))
        one.write(health(2.0, dropped_ms=5.0))
        wait_until(lambda: last_state(heard).get("dropped_ms") == 5)
        state = last_state(heard)
        for component in message["components"].values():
            name = component["value_template"].removeprefix("{{ value_json.").removesuffix(" }}")
            assert name in state
        assert state["emotion"] in emotions
        # It was restarted, and says so.
        told = len(heard.payloads(config))
        heard.publish("homeassistant/status", "online")
        wait_until(lambda: len(heard.payloads(config)) > told)
        assert heard.payloads(config)[-1] == heard.payloads(config)[0]
        one.close()
        quiet = sink()
        wait_until(lambda: b'"text": {"platform": "sensor"}' in heard.payloads(config)[-1])
        check_discovery(heard.payloads(config)[-1])
        quiet.close()
        address = f"mqtt://127.0.0.1:{mosquitto.port}"
        assert forget(MqttSettings(broker=address), CONTEXT)[0]
        for topic in (config, f"{BASE}/state", f"{BASE}/availability"):
            wait_until(lambda topic=topic: heard.payloads(topic)[-1] == b"")


def test_without_a_broker_there_is_no_sink() -> None:
    assert open_mqtt(MqttSettings(), CONTEXT) is None
