"""Every word, with no download: pocketsphinx's large-vocabulary search and its US English model.

Huggins-Daines et al. 2006, doi 10.1109/ICASSP.2006.1659988; the wheel of pocketsphinx 5 holds the
acoustic model, a dictionary of 135,000 words and a trigram language model.
"""

from __future__ import annotations

from edge_runtime.errors import TextError
from edge_runtime.mfcc import Int16
from edge_runtime.text import Transcript, Word, spell
from edge_runtime.text.sphinx import FRAME_SECONDS, open_decoder

_FILLERS = "<[+"  # silence, sentence marks and noises stand in brackets


class SphinxAsr:
    """Large-vocabulary recognition of US English. Raises TextError where the model is damaged.

    Partial words have no confidence; final ones have the posterior of the word lattice. Cepstral
    means adapt from utterance to utterance, as on any device with one microphone; `forget` starts
    afresh.
    """

    name = "asr"

    def __init__(self) -> None:
        self._decoder = open_decoder()
        self._means = self._decoder.get_cmn()
        self._start: float | None = None
        self._said = ""

    def begin(self, t: float) -> None:
        """See TextSource."""
        if self._start is not None:
            self._decoder.end_utt()
        self._decoder.start_utt()
        self._start, self._said = t, ""

    def feed(self, samples: Int16) -> Transcript | None:
        """See TextSource. A partial comes where the words changed."""
        if self._start is None:
            raise TextError("asr: samples before an utterance began")
        self._decoder.process_raw(samples.tobytes())
        hypothesis = self._decoder.hyp()
        said = hypothesis.hypstr if hypothesis else ""
        if said == self._said:
            return None
        self._said = said
        return Transcript(self._words(False), False, self._start, self.name)

    def end(self) -> Transcript:
        """See TextSource."""
        if self._start is None:
            raise TextError("asr: an utterance ended that had not begun")
        start = self._start
        self._decoder.end_utt()
        words = self._words(True)
        self._start = None
        return Transcript(words, True, start, self.name)

    def forget(self) -> None:
        """Hear the next utterance as the first: what was learned of the channel is dropped."""
        self._decoder.set_cmn(self._means)

    def close(self) -> None:
        """Nothing outlives the object."""

    def _words(self, final: bool) -> tuple[Word, ...]:
        begin = self._start or 0.0
        # Without any frame there is no hypothesis, and asking for its segments raises.
        segments = self._decoder.seg() if self._decoder.hyp() else None
        return tuple(
            Word(
                spell(segment.word),
                begin + segment.start_frame * FRAME_SECONDS,
                begin + (segment.end_frame + 1) * FRAME_SECONDS,
                min(1.0, segment.prob) if final else None,
            )
            for segment in segments or ()
            if segment.word[0] not in _FILLERS
        )
