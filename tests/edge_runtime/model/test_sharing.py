"""Many streams of one bundle: one interpreter a graph, the same events as alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.events import EmotionEvent
from edge_runtime.manifest import AUDIO_ENCODER
from edge_runtime.system import resident_megabytes

Int16 = npt.NDArray[np.int16]
STREAMS = 8


def said(stream: EmotionStream, samples: Int16) -> list[Any]:
    """What a stream says of emotions, without the times it took."""
    events = []
    for start in range(0, len(samples), 1600):
        events += stream.feed(samples[start : start + 1600])
    events += stream.finish()
    return [(e.t, e.final, e.scores) for e in events if isinstance(e, EmotionEvent)]


def test_eight_streams_in_eight_threads_say_what_each_says_alone(
    bundle_path: Any, scene: Int16
) -> None:
    parts = [np.roll(scene, -16_000 * index)[: 16_000 * 8] for index in range(STREAMS)]
    alone = [said(EmotionStream(load_bundle(bundle_path)), part) for part in parts]
    assert len({str(events) for events in alone}) == STREAMS
    shared = load_bundle(bundle_path)
    streams = [EmotionStream(shared) for _ in parts]
    with ThreadPoolExecutor(STREAMS) as pool:
        together = list(pool.map(said, streams, parts))
    assert together == alone


def test_a_further_stream_takes_little_memory(bundle: Bundle) -> None:
    first = [EmotionStream(bundle) for _ in range(2)]
    before = resident_megabytes()
    more = [EmotionStream(bundle) for _ in range(STREAMS)]
    # Its buffers and tables, not its weights: an interpreter for itself takes about 3 MB.
    assert resident_megabytes() - before < STREAMS * 1.0
    assert first
    assert more


def test_a_graph_is_opened_once(bundle: Bundle) -> None:
    assert bundle.open_graph(AUDIO_ENCODER) is bundle.open_graph(AUDIO_ENCODER)
    assert bundle.open_graph(AUDIO_ENCODER, 2) is not bundle.open_graph(AUDIO_ENCODER)
