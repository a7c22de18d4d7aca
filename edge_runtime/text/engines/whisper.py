"""whisper.cpp, by pywhispercpp: a ggml model file (https://huggingface.co/ggerganov/whisper.cpp).

Whisper hears 30 s at a time, shorter utterances padded, so words come when an utterance is over and
cost the same for a short one: for a Raspberry Pi take ggml-tiny.en-q5_1.bin, or another engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.errors import TextError
from edge_runtime.events import Word
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Int16
from edge_runtime.text.engines import Engine
from edge_runtime.text.engines.pieces import PieceSource, spoken

if TYPE_CHECKING:
    from pywhispercpp.model import Segment

_MAGIC = b"lmgg"  # 0x67676d6c, little-endian
_TICK = 0.01  # seconds, of its times
_SHORTEST = SAMPLE_RATE  # whisper.cpp refuses less than a second


class WhisperSource(PieceSource):
    """A ggml model in the file `model`. TextError where that is none."""

    name = "whisper"

    def __init__(self, model: Path) -> None:
        if not _is_ggml(model):
            raise TextError(
                f"whisper: {model} is no ggml model; expected a file such as ggml-tiny.en.bin from "
                "https://huggingface.co/ggerganov/whisper.cpp"
            )
        from pywhispercpp.model import Model

        super().__init__()
        # One word a segment, so that each has its times and probability.
        self._model = Model(
            str(model),
            redirect_whispercpp_logs_to=None,
            n_threads=1,
            print_progress=False,
            token_timestamps=True,
            max_len=1,
            split_on_word=True,
        )

    def _words(self, samples: Int16, start: float) -> tuple[Word, ...]:
        padded = np.pad(samples, (0, max(0, _SHORTEST - samples.size)))
        media: Any = padded.astype(np.float32) / np.float32(FULL_SCALE)
        return words_of(self._model.transcribe(media, extract_probability=True), start)


def words_of(segments: Sequence[Segment], start: float) -> tuple[Word, ...]:
    """Segments of one word each, of an utterance that began at second `start`, as words."""
    words = []
    for segment in segments:
        if word := spoken(segment.text):
            sure = None if math.isnan(segment.probability) else float(segment.probability)
            words.append(Word(word, start + segment.t0 * _TICK, start + segment.t1 * _TICK, sure))
    return tuple(words)


def _is_ggml(model: Path) -> bool:
    try:
        with model.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


ENGINE = Engine(
    forms=("whisper:FILE",),
    package="pywhispercpp",
    extra="whisper",
    requirement="pywhispercpp>=1.3",
    hears="a [whisper.cpp](https://huggingface.co/ggerganov/whisper.cpp) ggml file",
    proven="**not run end to end**: package called, results of its type parsed",
    load=lambda argument, _: WhisperSource(Path(argument).expanduser()),
    model="a file from https://huggingface.co/ggerganov/whisper.cpp",
)
