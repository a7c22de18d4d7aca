"""What the engines made of pocketsphinx share: its model, opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from edge_runtime.errors import MissingPackageError, TextError
from edge_runtime.mfcc import SAMPLE_RATE, Int16
from edge_runtime.text import Transcript, Word

try:
    import pocketsphinx
except ImportError:
    raise MissingPackageError("hearing words with pocketsphinx", "pocketsphinx", "asr") from None

FRAME_SECONDS = 0.01  # its frames
# End-pointing cuts within 100 ms of the last voiced frame. Without silence to end on, the search
# loses last words: of five RAVDESS clips it spotted "by the door" in two, with it in all.
_TAIL = np.zeros(3 * SAMPLE_RATE // 10, np.int16)


def open_decoder(**options: Any) -> pocketsphinx.Decoder:
    """A decoder on the US English model of its package; TextError where that cannot be opened.

    `options` are pocketsphinx's own, such as `lm=None` for one without a language model.
    """
    try:
        return pocketsphinx.Decoder(**{"loglevel": "FATAL", **options})
    except RuntimeError as error:
        raise TextError(
            f"pocketsphinx cannot open its model in {pocketsphinx.get_model_path()} ({error}); "
            "install it again: pip install --force-reinstall pocketsphinx"
        ) from None


class SphinxSource(ABC):
    """A TextSource on a decoder, whatever it searches for.

    Cepstral means adapt from utterance to utterance, as they should on a device with one
    microphone; `forget` starts afresh.
    """

    name: ClassVar[str] = ""

    def __init__(self, decoder: pocketsphinx.Decoder) -> None:
        self._decoder = decoder
        self._means = decoder.get_cmn()
        self._start: float | None = None
        self._said: tuple[Word, ...] = ()

    def begin(self, t: float) -> None:
        """See TextSource."""
        if self._start is not None:
            self._decoder.end_utt()
        self._decoder.start_utt()
        self._start, self._said = t, ()

    def feed(self, samples: Int16) -> Transcript | None:
        """See TextSource."""
        if self._start is None:
            raise TextError(f"{self.name}: samples before an utterance began")
        self._decoder.process_raw(samples.tobytes())
        words = self._words(self._start, False)
        if words == self._said:
            return None
        self._said = words
        return Transcript(words, False, self._start, self.name)

    def end(self) -> Transcript:
        """See TextSource."""
        if self._start is None:
            raise TextError(f"{self.name}: an utterance ended that had not begun")
        self._decoder.process_raw(_TAIL.tobytes())
        self._decoder.end_utt()
        start, self._start = self._start, None
        return Transcript(self._words(start, True), True, start, self.name)

    def forget(self) -> None:
        """Hear the next utterance as the first: what was learned of the channel is dropped."""
        self._decoder.set_cmn(self._means)

    def close(self) -> None:
        """See TextSource; nothing outlives the object."""
        self._start = None

    def _segments(self) -> list[pocketsphinx.Segment]:
        """What the search found, in order of time; asking without a hypothesis would raise."""
        return list(self._decoder.seg() or ()) if self._decoder.hyp() else []

    @abstractmethod
    def _words(self, start: float, final: bool) -> tuple[Word, ...]:
        """What is heard so far in the utterance that began at second `start`."""
