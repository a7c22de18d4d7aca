"""What is refused before anything is sent, what a device is called, and where its state is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import SettingError
from edge_runtime.events import (
    AudioStatusEvent,
    EmotionEvent,
    Event,
    RevisedEvent,
    SourceEvent,
    SpeechStartEvent,
    TextEvent,
)
from edge_runtime.settings import Secret
from edge_runtime.sinks import Context
from edge_runtime.sinks.homeassistant import State
from edge_runtime.sinks.mqtt import MqttSettings, MqttSink, Topics, check, slug
from edge_runtime.system import state_folder

CONTEXT = Context("Living Room", "1.0", "default", ("angry", "sad"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"broker": "broker"}, r"expected mqtt://HOST\[:PORT\] or mqtts://HOST"),
        ({"broker": "http://broker"}, r"expected mqtt://HOST.*not .http://broker"),
        ({"broker": "mqtt://"}, "expected mqtt://HOST"),
        ({"broker": "mqtt://broker:port"}, "expected mqtt://HOST"),
        ({"broker": "mqtt://broker:0"}, "expected mqtt://HOST"),
        ({"broker": "mqtt://[fe80::1"}, "expected mqtt://HOST"),
        ({"broker": "mqtt://me:hidden@[fe80::1"}, "expected mqtt://HOST"),
        ({"broker": "mqtt://a\u2100b"}, "expected mqtt://HOST"),
        ({"broker": "mqtt://a\udcff"}, "expected mqtt://HOST"),
        ({"user": "\udcff"}, "mqtt.user and mqtt.password must be text in UTF-8"),
        ({"user": "me", "password": Secret("hidden\udcff")}, "must be text in UTF-8"),
        ({"broker": "mqtt://broker/topic"}, "the topic is a setting: mqtt.topic"),
        ({"broker": "mqtt://me:hidden@broker"}, "mqtt://broker: .*mqtt.user.*mqtt.password_file"),
        ({"password": Secret("hidden")}, "mqtt.password needs mqtt.user"),
        ({"ca_file": Path("ca.pem")}, "without TLS"),
        ({"insecure": True}, "without TLS"),
        ({"broker": "mqtts://broker", "ca_file": Path("absent")}, "mqtt.ca_file absent: .*No such"),
        ({"broker": "mqtts://broker", "key_file": Path("key")}, "needs mqtt.certificate_file"),
        (
            {"broker": "mqtts://broker", "certificate_file": Path("absent")},
            "mqtt.certificate_file absent.*No such",
        ),
        ({"user": "me", "password_file": Path("absent")}, "mqtt.password_file absent: No such"),
        ({"topic": "a/#"}, "mqtt.topic: expected a topic without"),
        ({"topic": ""}, "mqtt.topic: expected a topic without"),
        ({"topic": "a\udcff"}, "mqtt.topic: expected a topic without"),
        ({"discovery_prefix": "a/"}, "mqtt.discovery_prefix: expected"),
    ],
)
def test_what_cannot_work_is_one_line(changed: dict[str, Any], message: str) -> None:
    pytest.importorskip("paho")
    with pytest.raises(SettingError, match=message) as refused:
        MqttSink(MqttSettings(**({"broker": "mqtt://broker"} | changed)), CONTEXT)
    assert "hidden" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "a\0b"])
def test_a_name_that_is_none_is_no_such_host(host: str) -> None:
    pytest.importorskip("paho")
    works, line = check(MqttSettings(broker=f"mqtt://{host}:1"))
    assert not works
    assert "no such host" in line


def test_a_name_becomes_topics() -> None:
    assert slug("Küche 1") == "kuche-1"
    assert slug("--a__b--") == "a-b"
    assert slug("客厅") == slug("客厅") != slug("厨房")
    assert slug("客厅").startswith("device-")
    assert slug("\udcff") != slug("\udcfe"), "a name that is no UTF-8 is one"
    topics = Topics.of(MqttSettings(topic="home/ears", discovery_prefix="ha"), CONTEXT)
    assert topics.event("emotion") == "home/ears/living-room/event/emotion"
    assert topics.config == "ha/device/living-room/config"
    assert Topics.of(MqttSettings(name="Den"), CONTEXT).state == "edge-emotion/den/state"


def test_somebody_speaks_from_the_start_to_the_verdict_or_the_end_of_the_microphone() -> None:
    state = State(text=True)
    assert not state.update(SourceEvent(0.0, "mic"))
    assert state.update(SpeechStartEvent(1.0))
    assert not state.update(EmotionEvent(1.5, False, 1.0, 1.5, "sad", 0.6, {"sad": 1.0}))
    assert state.values["speaking"] == "ON"
    long = "word " * 100
    assert state.update(EmotionEvent(2.0, True, 1.0, 2.0, "sad", 0.6, {"sad": 1.0}, long))
    message = json.loads(state.message())
    assert message["speaking"] == "OFF"
    assert (message["emotion"], message["confidence_percent"]) == ("sad", 60.0)
    assert message["text"] == long[:255]
    state.update(SpeechStartEvent(3.0))
    state.update(AudioStatusEvent(4.0, "mic", "lost", True, "unplugged"))
    assert state.values["speaking"] == "OFF"


def test_what_is_shown_goes_back_to_no_earlier_utterance() -> None:
    def said(kind: type[EmotionEvent], start: float, label: str, text: str) -> EmotionEvent:
        return kind(9.0, True, start, start + 1, label, 0.6, {label: 0.6}, text)

    state = State(text=True)

    def shown(event: Event) -> tuple[Any, Any]:
        state.update(event)
        return state.values["emotion"], state.values["text"]

    assert shown(said(EmotionEvent, 1.0, "sad", "")) == ("sad", "")
    assert shown(said(EmotionEvent, 3.0, "angry", "second")) == ("angry", "second")
    assert not state.update(said(RevisedEvent, 1.0, "happy", "first"))
    assert not state.update(TextEvent(9.0, "first", True, "asr", 1.0))
    assert shown(said(RevisedEvent, 3.0, "happy", "the second")) == ("happy", "the second")
    # Words may be there before their verdict, and a bundle that does not read tells none.
    assert shown(TextEvent(9.0, "third", True, "asr", 5.0)) == ("happy", "third")
    assert shown(said(RevisedEvent, 3.0, "sad", "second")) == ("sad", "third")
    assert shown(said(EmotionEvent, 5.0, "angry", "")) == ("angry", "third")
    assert shown(said(EmotionEvent, 7.0, "sad", "")) == ("sad", "")
    # Of another source the clock begins anew.
    state.update(SourceEvent(0.0, "mic"))
    assert shown(said(EmotionEvent, 1.0, "happy", "anew")) == ("happy", "anew")


def test_state_is_the_services_or_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder("mqtt") == tmp_path / ".local/state/edge-emotion/mqtt"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert state_folder("mqtt") == Path("/state/edge-emotion/mqtt")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-emotion:/var/lib/other")
    assert state_folder("mqtt") == Path("/var/lib/edge-emotion/mqtt")
