"""How Home Assistant finds a device by MQTT, and the state that its page shows.

One message describes the whole device (device discovery, Home Assistant 2024.11 and later):
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.events import (
    UNSURE,
    AudioStatusEvent,
    EmotionEvent,
    Event,
    HealthEvent,
    SourceEvent,
    SpeechStartEvent,
    TextEvent,
)

ONLINE, OFFLINE = "online", "offline"
_LONGEST_STATE = 255  # characters; Home Assistant refuses a longer state
_DIAGNOSTIC = {"entity_category": "diagnostic"}


@dataclass(frozen=True)
class Device:
    """What Home Assistant is told of a device."""

    id: str
    """In topics: letters, digits, - and _."""
    name: str
    """As people call it."""
    version: str
    """Of this program."""
    bundle: str
    """Name of the bundle that judges."""
    labels: tuple[str, ...]
    """Its classes."""


def config_topic(prefix: str, device: Device) -> str:
    """Where a device is described; an empty retained message there takes it away."""
    return f"{prefix}/device/{device.id}/config"


def birth_topic(prefix: str) -> str:
    """Where Home Assistant says that it is there."""
    return f"{prefix}/status"


def discovery(device: Device, state: str, availability: str, text: bool) -> bytes:
    """The message that describes a device whose `state` and `availability` are on these topics.

    Without `text`, an entity of the words that was there before is taken away.
    """
    components = {
        "emotion": _sensor(
            "Emotion",
            "emotion",
            device_class="enum",
            options=list(dict.fromkeys((*device.labels, UNSURE))),
            icon="mdi:emoticon-outline",
        ),
        "confidence": _sensor(
            "Confidence",
            "confidence_percent",
            unit_of_measurement="%",
            state_class="measurement",
            icon="mdi:percent-outline",
        ),
        "speaking": {
            "platform": "binary_sensor",
            "name": "Speaking",
            "value_template": "{{ value_json.speaking }}",
            "device_class": "sound",
            "payload_on": "ON",
            "payload_off": "OFF",
        },
        "dropped_audio": _sensor(
            "Dropped audio",
            "dropped_ms",
            device_class="duration",
            unit_of_measurement="ms",
            state_class="total_increasing",
            **_DIAGNOSTIC,
        ),
        "temperature": _sensor(
            "Temperature",
            "temperature_c",
            device_class="temperature",
            unit_of_measurement="°C",
            state_class="measurement",
            **_DIAGNOSTIC,
        ),
        "real_time_factor": _sensor(
            "Real-time factor",
            "real_time_factor",
            state_class="measurement",
            icon="mdi:speedometer",
            **_DIAGNOSTIC,
        ),
    }
    if text:
        components["text"] = _sensor("Text", "text", icon="mdi:text")
    for key, component in components.items():
        component["unique_id"] = f"edge-emotion-{device.id}-{key}"
    if not text:
        components["text"] = {"platform": "sensor"}  # nothing but the platform: take it away
    message = {
        "device": {
            "identifiers": [f"edge-emotion-{device.id}"],
            "name": device.name,
            "manufacturer": "edge-emotion",
            "model": device.bundle,
            "sw_version": device.version,
        },
        "origin": {"name": "edge-emotion", "sw_version": device.version},
        "components": components,
        "state_topic": state,
        "availability_topic": availability,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "qos": 1,
    }
    return encoded(message)


def encoded(message: Mapping[str, Any]) -> bytes:
    """A message as JSON; what no UTF-8 has (half a surrogate pair, of words or a name) as ?."""
    return json.dumps(message, ensure_ascii=False).encode(errors="replace")


def _sensor(name: str, value: str, **how: Any) -> dict[str, Any]:
    return {
        "platform": "sensor",
        "name": name,
        # What is null is "None", and that is unknown.
        "value_template": f"{{{{ value_json.{value} }}}}",
        **how,
    }


@dataclass
class State:
    """What the page of a device shows; None is unknown."""

    text: bool
    """Whether words are shown."""
    values: dict[str, Any] = field(
        default_factory=lambda: {
            "emotion": None,
            "confidence_percent": None,
            "speaking": "OFF",
            "dropped_ms": None,
            "temperature_c": None,
            "real_time_factor": None,
        }
    )
    """By name in the message."""
    judged: float = -math.inf
    """Second at which the utterance began whose verdict is shown."""
    heard: float = -math.inf
    """Second at which the utterance began whose words are shown."""

    def update(self, event: Event) -> bool:
        """Take what an event says; whether that changes anything."""
        new: dict[str, Any] = {}
        if isinstance(event, SpeechStartEvent):
            new = {"speaking": "ON"}
        elif isinstance(event, SourceEvent):
            self.judged = self.heard = -math.inf
            new = {"speaking": "OFF"}
        elif isinstance(event, AudioStatusEvent):
            new = {"speaking": "OFF"} if event.what == "lost" and event.active else {}
        elif isinstance(event, EmotionEvent) and event.final:
            new = self._verdict(event)
        elif isinstance(event, TextEvent):
            new = self._words(event) if event.final else {}
        elif isinstance(event, HealthEvent):
            temperature = getattr(event, "temperature_c", None)
            new = {
                "dropped_ms": round(event.dropped_ms),
                "temperature_c": None if temperature is None else round(temperature, 1),
                "real_time_factor": round(event.real_time_factor, 4),
            }
        changed = any(self.values.get(name) != value for name, value in new.items())
        self.values.update(new)
        return changed

    def _verdict(self, event: EmotionEvent) -> dict[str, Any]:
        new: dict[str, Any] = {}
        if event.type == EmotionEvent.type:  # one that is revised says nothing of now
            new["speaking"] = "OFF"
        if event.start >= self.judged:  # nor is an earlier utterance shown again
            self.judged = event.start
            new["emotion"] = event.label
            new["confidence_percent"] = round(100 * event.confidence, 1)
        # A bundle that does not read tells no words, which takes none away.
        return new | (self._words(event) if event.text or event.start > self.heard else {})

    def _words(self, event: EmotionEvent | TextEvent) -> dict[str, Any]:
        if not self.text or event.start < self.heard:
            return {}
        self.heard = event.start
        return {"text": event.text[:_LONGEST_STATE]}

    def message(self) -> bytes:
        """All of it as JSON."""
        words = {"text": self.values.get("text")} if self.text else {}
        return encoded({**self.values, **words})
