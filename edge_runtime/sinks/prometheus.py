"""Figures of a device for Prometheus, at http://HOST:PORT/metrics; no words are among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import EdgeError, MissingPackageError
from edge_runtime.events import (
    UNSURE,
    AudioStatusEvent,
    EmotionEvent,
    Event,
    HealthEvent,
    RevisedEvent,
    SourceEvent,
)
from edge_runtime.settings import Settings, setting
from edge_runtime.sinks import Context

_PREFIX = "edge_emotion"
# s; a verdict takes a few ms on a workstation, tens on a small board
_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# Of health events: what counts up, and starts again with a new source.
_COUNTERS = {
    "dropped_ms": ("dropped_audio_seconds", "Audio lost before it could be heard.", 1e-3),
    "invalid_samples": ("invalid_samples", "Samples that were no numbers.", 1),
    "text_dropped_s": ("text_dropped_seconds", "Audio that no source of words heard.", 1),
    "reconnects": ("reconnects", "How often the source was lost and came back.", 1),
    "queue_dropped": ("dropped_messages", "Messages that outputs have dropped.", 1),
}
# And what is as it is now.
_GAUGES = {
    "real_time_factor": ("real_time_factor", "Processing time over audio time.", 1),
    "rss_mb": ("resident_memory_bytes", "Memory of the process.", 1e6),
    "text_rss_mb": ("text_resident_memory_bytes", "Memory of the process of words.", 1e6),
    "text_lag_s": ("text_lag_seconds", "Audio that the source of words has not heard yet.", 1),
    "temperature_c": ("temperature_celsius", "Temperature of the processor.", 1),
    "audio_waiting_s": ("audio_waiting_seconds", "Audio captured and not judged yet.", 1),
    "queued": ("queued_messages", "Messages that wait in outputs.", 1),
}


@dataclass(frozen=True)
class PrometheusSettings(Settings):
    """Figures for Prometheus."""

    port: int | None = setting(
        None, "Serve figures for Prometheus at this port.", minimum=1, maximum=65_535, main=True
    )
    host: str = setting(
        "127.0.0.1", "Address that is listened at; 0.0.0.0 is every one of this device, for all."
    )


def open_prometheus(settings: PrometheusSettings, context: Context) -> PrometheusSink | None:
    """The sink that `settings` ask for; None where they ask for none. See `PrometheusSink`."""
    return None if settings.port is None else PrometheusSink(settings, settings.port, context)


class PrometheusSink:
    """Counts what happens, and serves it in a thread.

    Raises EdgeError where nothing can listen there, MissingPackageError without prometheus-client.
    """

    def __init__(self, settings: PrometheusSettings, port: int, context: Context) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            raise MissingPackageError("--prometheus", "prometheus-client", "prometheus") from None
        registry = CollectorRegistry()
        self._figures = _Figures(registry, context)
        try:
            self._server, self._thread = start_http_server(port, settings.host, registry)
        except (OSError, OverflowError, ValueError) as error:  # ValueError: a name that is none
            why = getattr(error, "strerror", None) or error
            raise EdgeError(
                f"cannot serve figures at {settings.host}:{port}: {why}; choose another "
                "--prometheus port or --prometheus-host"
            ) from None

    def write(self, event: Event) -> None:
        """Count one event."""
        self._figures.take(event)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Figures:
    """What is counted, in a registry of its own."""

    def __init__(self, registry: Any, context: Context) -> None:
        from prometheus_client import Counter, Gauge, Histogram, Info

        def named(kind: Any, name: str, text: str, *more: Any, **how: Any) -> Any:
            return kind(f"{_PREFIX}_{name}", text, *more, registry=registry, **how)

        self._up = named(Gauge, "up", "1 while the source is heard, 0 while it is lost.")
        self._up.set(1)
        self._utterances = named(Counter, "utterances", "Final verdicts.", ["label"])
        for label in (*context.labels, UNSURE):
            self._utterances.labels(label)  # is 0 until there is one
        self._revised = named(Counter, "revised", "Final verdicts that late words revised.")
        self._late = named(Counter, "late", "Final verdicts that the device was too busy for.")
        self._latency = named(
            Histogram,
            "latency_seconds",
            "Time from the last sample of an utterance to its final verdict.",
            buckets=_LATENCIES,
        )
        self._throttled = named(Gauge, "throttled", "1 where the board slows down, else 0.")
        self._counters = {
            field: (named(Counter, name, text), unit)
            for field, (name, text, unit) in _COUNTERS.items()
        }
        self._before = dict.fromkeys(_COUNTERS, 0.0)
        self._gauges = {
            field: (named(Gauge, name, text), unit) for field, (name, text, unit) in _GAUGES.items()
        }
        self._gauges["temperature_c"][0].set(math.nan)  # until it is known
        named(Info, "build", "What runs here.").info(
            {"device": context.name, "version": context.version, "bundle": context.bundle}
        )

    def take(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, RevisedEvent):
            self._revised.inc()
        elif isinstance(event, EmotionEvent) and event.final:
            self._utterances.labels(event.label).inc()
            self._late.inc(event.late)
            if "total" in event.latency_ms:
                self._latency.observe(event.latency_ms["total"] / 1000)
        elif isinstance(event, AudioStatusEvent) and event.what == "lost":
            self._up.set(not event.active)
        elif isinstance(event, SourceEvent):
            self._up.set(1)
        elif isinstance(event, HealthEvent):
            self._take_health(event)

    def _take_health(self, event: HealthEvent) -> None:
        for field, (gauge, unit) in self._gauges.items():
            value = getattr(event, field)
            gauge.set(math.nan if value is None else value * unit)
        for field, (counter, unit) in self._counters.items():
            value, before = getattr(event, field), self._before[field]
            # Less than before: it was counted from 0 again.
            counter.inc(unit * (value - before if value >= before else value))
            self._before[field] = value
        self._throttled.set(bool(event.throttled))
