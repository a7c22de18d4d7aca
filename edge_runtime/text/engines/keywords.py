"""A handful of words and phrases, cheaply: pocketsphinx's keyphrase search.

It runs every phrase as a chain of phones beside a loop over all phones, and reports a phrase where
their likelihood ratio passes the phrase's own threshold.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from edge_runtime.errors import TextError
from edge_runtime.events import Word
from edge_runtime.text.engines import Engine
from edge_runtime.text.engines.sphinx import (
    EXTRA,
    FRAME_SECONDS,
    PACKAGE,
    REQUIREMENT,
    SphinxModel,
    SphinxSource,
    model_in,
    open_decoder,
    pronunciation,
)
from edge_runtime.text.phrases import LIST, Phrase, read_keywords

# A detection's "probability" is its likelihood ratio as kws_search.c shows it: senone
# scores are log 1.0001 shifted right by 10 bits; less 1500 (KWS_MAX) it is called a logarithm.
_LOG_BASE = math.log(1.0001)
_KWS_MAX = 1500
_DECADES_PER_STEP = 1024 * _LOG_BASE / math.log(10)
# Without a threshold, by the number of phones, log10: a longer phrase is set off less. The straight
# line through the thresholds of 44 phrases that were tuned alike, for 10 alarms an hour together
# (correlation -0.72).
_DEFAULT, _DEFAULT_PER_PHONE, _LOWEST_DEFAULT = 24.0, -3.8, -10.0


class Keywords(SphinxSource):
    """Spots the phrases of a list in running speech.

    Each word of a transcript is one phrase; its confidence is its likelihood ratio over that plus
    the threshold's: 0.5 where it just counts. Of phrases that overlap in time the longest stays.

    A phrase with a word that neither dictionary nor list pronounces is left out, and `notes` says
    so. Raises TextError for a list of which nothing is left. `model` is that of another language.
    """

    name = "keywords"

    def __init__(self, phrases: list[Phrase], model: SphinxModel | None = None) -> None:
        super().__init__(open_decoder(model, lm=None))
        self._thresholds = self._open(phrases)

    def detections(self) -> list[tuple[str, int, int, float]]:
        """What was spotted in this utterance: phrase, first and last frame, log10 of its ratio."""
        return [
            (s.word.strip(), s.start_frame, s.end_frame, _decades(s.prob)) for s in self._segments()
        ]

    def _words(self, start: float, final: bool) -> tuple[Word, ...]:
        chosen: list[Word] = []
        for text, first, last, ratio in sorted(
            self.detections(), key=lambda d: (d[1] - d[2], d[1])
        ):
            word = Word(
                text,
                start + first * FRAME_SECONDS,
                start + (last + 1) * FRAME_SECONDS,
                _confidence(ratio - self._thresholds[text]),
            )
            if all(word.end <= other.start or other.end <= word.start for other in chosen):
                chosen.append(word)
        return tuple(sorted(chosen, key=lambda word: word.start))

    def _open(self, phrases: list[Phrase]) -> dict[str, float]:
        """Give the decoder the phrases; their thresholds, log10."""
        if not phrases:
            raise TextError("keywords: the list is empty")
        for word, phones in {w: p for f in phrases for w, p in f.pronunciations.items()}.items():
            self._pronounce(word, phones)
        for word in {w for p in phrases for w in p.text.split()}:
            if (known := pronunciation(self._decoder, word)) is not None:
                self._pronounce(word, known)  # in the letters that phrases are written in
        lacking = {
            w for p in phrases for w in p.text.split() if self._decoder.lookup_word(w) is None
        }
        spotted = [p for p in phrases if lacking.isdisjoint(p.text.split())]
        if lacking:
            note = (
                f"the pronunciation dictionary lacks {', '.join(sorted(lacking))}; give the phones "
                "in the fourth column, such as woah=W OW (python -m training keywords does it)"
            )
            if not spotted:
                raise TextError(f"keywords: {note}")
            without = ", ".join(repr(p.text) for p in phrases if p not in spotted)
            self.notes = (f"it does not listen for {without}: {note}",)
        phrases = spotted
        thresholds = {p.text: self._threshold(p) for p in phrases}
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.writelines(f"{text} /{10.0**value:.4e}/\n" for text, value in thresholds.items())
            file.flush()
            self._decoder.add_kws("keywords", file.name)
            self._decoder.activate_search("keywords")
        return thresholds

    def _pronounce(self, word: str, phones: str) -> None:
        if self._decoder.lookup_word(word) is not None:
            return
        try:
            self._decoder.add_word(word, phones, False)
        except RuntimeError:
            raise TextError(
                f"keywords: {phones!r} is no pronunciation of {word!r}; expected ARPAbet phones "
                "without stress, such as HH AE P IY"
            ) from None

    def _threshold(self, phrase: Phrase) -> float:
        if phrase.threshold is not None:
            return phrase.threshold
        phones = sum(len(self._decoder.lookup_word(w).split()) for w in phrase.text.split())
        return max(_LOWEST_DEFAULT, _DEFAULT + _DEFAULT_PER_PHONE * phones)


def _confidence(margin: float) -> float:
    """Of a likelihood ratio `margin` decades above the one at which the odds are even."""
    return float(1.0 / (1.0 + 10.0 ** -min(max(margin, -300.0), 300.0)))


def _decades(prob: float) -> float:
    """log10 of the likelihood ratio behind what pocketsphinx reports as a probability."""
    return (math.log(prob) / _LOG_BASE + _KWS_MAX) * _DECADES_PER_STEP


def _list(argument: str, keywords: Path | None) -> tuple[Path, SphinxModel | None]:
    """The file of phrases, and the model: what is named, else the bundle's and the package's."""
    path, model = Path(argument).expanduser() if argument else keywords, None
    if path is not None and path.is_dir():
        model, path = model_in(path), path / LIST
        if not path.is_file() and keywords is not None:
            path = keywords
    if path is None:
        raise TextError("this bundle has no keyword list; name one: keywords:FILE")
    if not path.is_file():
        raise TextError(f"keywords: there is no file {path}")
    return path, model


def _load(argument: str, keywords: Path | None) -> Keywords:
    path, model = _list(argument, keywords)
    return Keywords(read_keywords(path), model)


ENGINE = Engine(
    forms=("keywords", "keywords:FILE", "keywords:DIR"),
    package=PACKAGE,
    extra=EXTRA,
    requirement=REQUIREMENT,
    hears="pocketsphinx, a list of phrases; DIR holds one with the model of its language",
    proven="run, tested on real speech; its model is in the package",
    load=_load,
    check=_list,
)
