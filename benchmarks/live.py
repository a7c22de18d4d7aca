"""What a stream says of a clip, as a device would hear it."""

from __future__ import annotations

import numpy as np

from edge_runtime import EmotionStream
from edge_runtime.events import EmotionEvent
from edge_runtime.pcm import SAMPLE_RATE, Int16

SILENCE = np.zeros(SAMPLE_RATE, np.int16)
"""Behind a clip, so that its utterance ends."""


def final_labels(stream: EmotionStream, samples: Int16) -> list[str]:
    """Labels of the final verdicts on samples (n,), end-pointed; none where nothing was speech."""
    events = stream.feed(samples) + stream.finish()
    return [e.label for e in events if isinstance(e, EmotionEvent) and e.final]
