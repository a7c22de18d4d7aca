"""The typed events of a stream, and their JSON form (one object a line)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from math import floor
from typing import Any, ClassVar

UNSURE = "unsure"


@dataclass(frozen=True)
class SourceEvent:
    """A new source begins; `t` of what follows counts from here."""

    type: ClassVar[str] = "source"
    t: float
    """Always 0."""
    name: str
    """File name, or what is listened to."""


@dataclass(frozen=True)
class SpeechStartEvent:
    """Somebody begins to speak."""

    type: ClassVar[str] = "speech_start"
    t: float
    """Second of the stream at which the utterance begins."""


@dataclass(frozen=True)
class EmotionEvent:
    """What the running utterance (final: the finished one) sounds like."""

    type: ClassVar[str] = "emotion"
    t: float
    """Second of the stream up to which was heard when this was said."""
    final: bool
    """True once an utterance, at its end; false for a verdict while it is still spoken."""
    start: float
    """Second at which the utterance began."""
    end: float
    """Second up to which it was heard."""
    label: str
    """The most probable class, or "unsure" below the bundle's threshold."""
    confidence: float
    """Calibrated probability of the most probable class, 0 to 1."""
    scores: dict[str, float]
    """Calibrated probability of every class; they sum to 1."""
    text: str = ""
    """Words heard in the utterance."""
    modality: str = "audio"
    """What the verdict rests on: "audio", "text" or "audio+text"."""
    latency_ms: dict[str, float] = field(default_factory=dict)
    """Time from the last sample it needed to this event: per stage and in total, ms."""
    late: bool = False
    """True where the device was too busy to say it in time: more than a second of audio was
    waiting."""
    audio: str = ""
    """File in which the sound of a finished utterance is kept, in the folder of `--keep-audio`; ""
    where none is."""
    valence: float | None = None
    """How pleasant it sounds, from -1 to 1; left out where the bundle does not say."""
    arousal: float | None = None
    """How stirred it sounds, from -1 to 1; left out where the bundle does not say."""


@dataclass(frozen=True)
class RevisedEvent(EmotionEvent):
    """A final verdict again: words came that were too late for it."""

    type: ClassVar[str] = "revised"


@dataclass(frozen=True)
class TextEvent:
    """What words were heard in an utterance, up to now (final: in all of it).

    The engine runs beside the audio, so that this may come after the utterance's final verdict.
    """

    type: ClassVar[str] = "text"
    t: float
    """Second of the stream up to which audio had come when the words arrived."""
    text: str
    """The words with spaces between them."""
    final: bool
    """True where the engine will not change them any more."""
    source: str
    """The engine that heard them."""
    start: float = 0.0
    """Second at which the utterance began: which one this is, however late."""
    words: tuple[Word, ...] = ()
    """The same words with times and confidence."""


@dataclass(frozen=True)
class TextStatusEvent:
    """What hears the words has changed: it started, failed, was replaced, or came back."""

    type: ClassVar[str] = "text_status"
    t: float
    """Second of the stream."""
    source: str
    """What hears the words from now on; "off" where nothing does."""
    wanted: str
    """What was asked for."""
    reason: str
    """Why, in words."""
    lag_s: float = 0.0
    """Audio that is not heard yet, s."""
    dropped_s: float = 0.0
    """Audio that no engine will hear, s since the stream began."""


@dataclass(frozen=True)
class AudioStatusEvent:
    """What is wrong with the audio of a microphone or another live source, or is so no more."""

    type: ClassVar[str] = "audio_status"
    t: float
    """Second of the stream."""
    source: str
    """What is listened to."""
    what: str
    """One of "lost" (gone, and tried again), "muted", "quiet", "clipping", "offset" (DC), "hum",
    "dead_channel", or "cancelling" (channels of opposite sign)."""
    active: bool
    """True where it begins, false where it is over."""
    message: str
    """What was found, and what to do."""


@dataclass(frozen=True)
class StorageEvent:
    """What is kept on disk because it was asked for: at the start, and where settings change."""

    type: ClassVar[str] = "storage"
    t: float
    """Second of the stream."""
    what: str
    """One of "events", which stay, "messages", until a broker has taken them, and "sound" of
    utterances."""
    words: bool
    """Whether the words that are heard are in them."""
    place: str
    """The file or folder."""
    megabytes: float
    """What is kept at most, MB."""
    days: float
    """How long it is kept at most, days."""
    message: str
    """The same in words; "" where it is kept no more."""


@dataclass(frozen=True)
class HealthEvent:
    """How the stream keeps up."""

    type: ClassVar[str] = "health"
    t: float
    """Second of the stream."""
    dropped_ms: float
    """Audio lost before it could be heard, ms since the stream began."""
    invalid_samples: int
    """Samples that were NaN or infinite and taken for 0, since the stream began."""
    real_time_factor: float
    """Processing time over audio time since the stream began."""
    rss_mb: float
    """Memory of the process, MB; 0 where the system does not tell."""
    text_source: str = "off"
    """What hears the words now; "off" where nothing does."""
    text_lag_s: float = 0.0
    """Audio that the text source has not heard yet, s."""
    text_dropped_s: float = 0.0
    """Audio that no text source will hear, s since the stream began."""
    text_rss_mb: float = 0.0
    """Memory of the text source's process, MB."""
    text_real_time_factor: float = 0.0
    """Processor time of the text source's process over the speech it heard since it took over."""
    text_lost_lines: int = 0
    """Lines of somebody else's words that came too fast to be read, since they were opened."""
    text_invalid_lines: int = 0
    """Lines of somebody else's words that could not be read, since they were opened."""
    temperature_c: float | None = None
    """Temperature of the processor, degrees C; null where the system does not tell."""
    throttled: str = ""
    """What slowed a Raspberry Pi down in the last minute: "under-voltage", "capped", "throttled",
    "soft temperature limit", or several of them with commas; "" where nothing did, and on other
    boards."""
    audio_waiting_s: float = 0.0
    """Audio that was captured and is not judged yet, s."""
    reconnects: int = 0
    """How often the source was lost and came back, since it was opened."""
    queued: int = 0
    """Messages that wait in the outputs to be sent."""
    queue_dropped: int = 0
    """Messages that the outputs have dropped, since they were opened."""


Event = (
    SourceEvent
    | SpeechStartEvent
    | TextEvent
    | TextStatusEvent
    | AudioStatusEvent
    | StorageEvent
    | EmotionEvent
    | HealthEvent
)

_DECIMALS = {
    "latency_ms": 3,
    "real_time_factor": 5,
    "text_real_time_factor": 5,
    "scores": 4,
    "confidence": 4,
    "temperature_c": 1,
}


def to_dict(event: Event) -> dict[str, Any]:
    """An event as the object of the JSON contract: type first, numbers rounded."""
    result: dict[str, Any] = {"type": event.type}
    for item in fields(event):
        result[item.name] = _rounded(getattr(event, item.name), _DECIMALS.get(item.name, 3))
    if isinstance(event, EmotionEvent):
        result["scores"] = _sum_to_one(event.scores)
        result["confidence"] = max(result["scores"].values())
        for name in ("valence", "arousal"):
            if result[name] is None:
                del result[name]
    return result


def to_json(event: Event) -> str:
    """An event as one line of JSON, without the line break."""
    return json.dumps(to_dict(event), ensure_ascii=False, allow_nan=False)


def to_message(event: Event, at: datetime) -> dict[str, Any]:
    """As `to_dict`, for whoever does not read along: with the time of day."""
    return {"time": time_of_day(at), **to_dict(event)}


def time_of_day(at: datetime) -> str:
    """A time as messages have it: RFC 3339, UTC, ms."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(value: Any, decimals: int) -> Any:
    if isinstance(value, float):
        return round(value, decimals)
    if isinstance(value, dict):
        return {key: _rounded(item, decimals) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_rounded(item, decimals) for item in value]
    if isinstance(value, Word):
        return _rounded(asdict(value), decimals)
    return value


def _sum_to_one(scores: dict[str, float]) -> dict[str, float]:
    """Scores rounded so that they still sum to 1 and keep their order: largest remainders go up."""
    unit = 10 ** _DECIMALS["scores"]
    units = {label: floor(value * unit) for label, value in scores.items()}
    by_remainder = sorted(scores, key=lambda label: units[label] - scores[label] * unit)
    for label in by_remainder[: unit - sum(units.values())]:
        units[label] += 1
    return {label: count / unit for label, count in units.items()}


@dataclass(frozen=True)
class Word:
    """One word that was heard."""

    text: str
    """Lower case, as the engine spells it, without pronunciation marks; or a whole key phrase."""
    start: float
    """Second of the stream at which it begins."""
    end: float
    """Second of the stream at which it ends."""
    confidence: float | None = None
    """Posterior probability, 0 to 1; None where the engine gives none (partial words mostly)."""
