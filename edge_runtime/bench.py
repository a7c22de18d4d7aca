"""Latency per stage, measured with the code that runs on the device."""

from __future__ import annotations

from dataclasses import asdict, replace
from time import perf_counter
from typing import Any

import numpy as np

from edge_runtime.audio import BLOCK, BLOCK_SECONDS
from edge_runtime.bundle import Bundle
from edge_runtime.events import EmotionEvent
from edge_runtime.pcm import SAMPLE_RATE, Float32, Int16
from edge_runtime.stream import EmotionStream
from edge_runtime.system import peak_megabytes

UTTERANCE_SECONDS = 2.5
UTTERANCES = 60  # so that the slowest of a hundred blocks are seen several times
_WARM_UP = 5
PERCENTILES = (50, 95, 99)


def measure(
    bundle: Bundle,
    threads: int = 1,
    utterances: int = UTTERANCES,
    engine: str | None = None,
) -> dict[str, Any]:
    """Stream generated utterances of 2.5 s through `bundle`, 100 ms at a time.

    Returns the conditions, for each stage the p50, p95 and p99 of its milliseconds a block, the
    same of the final verdict (from the last sample to the event), and the real-time factor.
    Every stage costs the same whatever is said, so noise does as well as speech; it is taken for
    one utterance, which the voice activity detector judges all the same. `engine` forces an
    interpreter, see `edge_runtime.graph.available_engines`.
    """
    stream = EmotionStream(
        bundle, segment=bundle.manifest.segment.whole(), threads=threads, engine=engine
    )
    signal = speechlike_noise(UTTERANCE_SECONDS)
    stages: dict[str, list[float]] = {"segmentation": [], "features": [], "graph": []}
    finals: list[float] = []
    busy = 0.0
    for index in range(_WARM_UP + utterances):
        counted = index >= _WARM_UP
        for start in range(0, len(signal), BLOCK):
            before, begin = replace(stream.times), perf_counter()
            stream.feed(signal[start : start + BLOCK])
            if counted:
                busy += perf_counter() - begin
                for stage, values in stages.items():
                    spent = asdict(stream.times)[stage] - asdict(before)[stage]
                    values.append(1000 * spent)
        begin = perf_counter()
        events = stream.finish()
        if counted:
            busy += perf_counter() - begin
            finals += [e.latency_ms["total"] for e in events if isinstance(e, EmotionEvent)]
    audio = utterances * len(signal) / SAMPLE_RATE
    return {
        "bundle": bundle.manifest.name,
        "engine": stream.recognizer.engine,
        "threads": threads,
        "utterances": utterances,
        "utterance_seconds": UTTERANCE_SECONDS,
        "block_ms": round(1000 * BLOCK_SECONDS),
        "stages_ms_per_block": {stage: _percentiles(v) for stage, v in stages.items()},
        "final_verdict_ms": _percentiles(finals),
        "real_time_factor": round(busy / audio, 5),
        "peak_rss_mb": round(peak_megabytes(), 1),
    }


def format_table(result: dict[str, Any]) -> str:
    """The result of `measure` as a table for a terminal."""
    rows = [("milliseconds", *(f"p{p}" for p in PERCENTILES))]
    for stage, values in result["stages_ms_per_block"].items():
        rows.append((f"{stage}, per {result['block_ms']} ms of speech", *_cells(values)))
    last = "final verdict, from the last sample to the event"
    rows.append((last, *_cells(result["final_verdict_ms"])))
    width = max(len(row[0]) for row in rows)
    threads = "1 thread" if result["threads"] == 1 else f"{result['threads']} threads"
    lines = [f"{row[0]:<{width}}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows]
    return "\n".join(
        [
            *lines,
            f"real-time factor {result['real_time_factor']:.4f}, "
            f"peak memory {result['peak_rss_mb']:.0f} MB, {result['engine']}, "
            f"{threads}, {result['utterances']} utterances of "
            f"{result['utterance_seconds']} s",
        ]
    )


def speechlike_noise(seconds: float) -> Int16:
    """Noise in bursts like syllables, int16 at 16 kHz: what silence would spare is computed."""
    count = round(seconds * SAMPLE_RATE)
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(count) / SAMPLE_RATE)
    noise = np.convolve(_white_noise(count), np.ones(8) / 8, "same")
    return np.asarray(3000 * envelope * noise, np.int16)


def _white_noise(count: int) -> Float32:
    """Uniform noise of variance 1, (count,): every place hashed, as MurmurHash3 ends.

    numpy.random would take 4 MB of the memory that is measured, which no stream needs.
    """
    bits = np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x9E3779B1)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    return np.asarray((bits / 2.0**31 - 1) * np.sqrt(3), np.float32)


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(values, p)), 4) for p in PERCENTILES}


def _cells(values: dict[str, float]) -> list[str]:
    return [f"{values[f'p{p}']:.3f}" for p in PERCENTILES]
