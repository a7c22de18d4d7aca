"""sherpa-onnx: streaming zipformer transducers, SenseVoice and Moonshine, by model folder.

The folders are those of https://github.com/k2-fsa/sherpa-onnx/releases/tag/asr-models, unpacked:

    tokens.txt, encoder*.onnx, decoder*.onnx, joiner*.onnx             streaming transducer
    tokens.txt, preprocess.onnx, encode*, uncached_decode*, cached_decode*    Moonshine
    tokens.txt, model*.onnx                                            SenseVoice

Where there is an int8 file beside a float one, it is taken. The latter two hear an utterance when
it is over, so they have no partial words.
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
from edge_runtime.text import TextSource, Transcript
from edge_runtime.text.engines import Engine
from edge_runtime.text.engines.pieces import PieceSource

if TYPE_CHECKING:
    import sherpa_onnx

_TAIL = np.zeros(SAMPLE_RATE * 2 // 3, np.float32)  # the transducers look ahead up to 0.6 s
_LAYOUT = "tokens.txt with encoder, decoder and joiner, with model, or with Moonshine's four parts"
_MARKS = "▁ "  # of a token that begins a word
_FIRST_IDEOGRAPH = "\u2e80"  # from here on every character is a word


def open_sherpa(folder: Path) -> TextSource:
    """The engine for the model in `folder`. TextError where there is none that it knows."""
    import sherpa_onnx

    tokens = folder / "tokens.txt"
    if not tokens.is_file():
        raise _unlike(folder, "there is no tokens.txt")
    streaming = [_part(folder, name) for name in ("encoder", "decoder", "joiner")]
    moonshine = [
        _part(folder, name) for name in ("preprocess", "encode", "uncached_decode", "cached_decode")
    ]
    single = _part(folder, "model")
    try:
        if all(streaming):
            encoder, decoder, joiner = map(str, streaming)
            return SherpaStreaming(
                sherpa_onnx.OnlineRecognizer.from_transducer(
                    str(tokens), encoder, decoder, joiner, num_threads=1
                )
            )
        if all(moonshine):
            parts = [str(part) for part in moonshine]
            return SherpaWhole(
                sherpa_onnx.OfflineRecognizer.from_moonshine(*parts, str(tokens), num_threads=1)
            )
        if single:
            return SherpaWhole(
                sherpa_onnx.OfflineRecognizer.from_sense_voice(
                    str(single), str(tokens), num_threads=1
                )
            )
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _unlike(folder, str(error).strip().splitlines()[0]) from None
    raise _unlike(folder, "it holds no such set of .onnx files")


class SherpaStreaming:
    """A streaming transducer: words as they are spoken."""

    name = "sherpa"
    notes: tuple[str, ...] = ()

    def __init__(self, recognizer: sherpa_onnx.OnlineRecognizer) -> None:
        self._recognizer = recognizer
        self._stream: Any = None
        self._start = 0.0
        self._heard = 0
        self._said: tuple[Word, ...] = ()

    def restart(self) -> None:
        """See TextSource."""
        self._stream = None

    def begin(self, t: float) -> None:
        """See TextSource."""
        self._stream = self._recognizer.create_stream()
        self._start, self._heard, self._said = t, 0, ()

    def feed(self, samples: Int16) -> Transcript | None:
        """See TextSource."""
        if self._stream is None:
            raise TextError("sherpa: samples before an utterance began")
        self._heard += samples.size
        unit = samples.astype(np.float32) / np.float32(FULL_SCALE)
        self._stream.accept_waveform(SAMPLE_RATE, unit)
        words = self._words()
        if words == self._said:
            return None
        self._said = words
        return Transcript(words, False, self._start, self.name)

    def end(self) -> Transcript:
        """See TextSource."""
        if self._stream is None:
            raise TextError("sherpa: an utterance ended that had not begun")
        self._stream.accept_waveform(SAMPLE_RATE, _TAIL)
        self._stream.input_finished()
        words = self._words()
        self._stream = None
        return Transcript(words, True, self._start, self.name)

    def close(self) -> None:
        """See TextSource."""
        self._stream = None

    def _words(self) -> tuple[Word, ...]:
        while self._recognizer.is_ready(self._stream):
            self._recognizer.decode_stream(self._stream)
        result = self._recognizer
        return words_of(
            result.tokens(self._stream),
            result.timestamps(self._stream),
            result.ys_probs(self._stream),
            self._start,
            self._start + self._heard / SAMPLE_RATE,
        )


class SherpaWhole(PieceSource):
    """A model that hears an utterance at once, when it is over."""

    name = "sherpa"

    def __init__(self, recognizer: sherpa_onnx.OfflineRecognizer) -> None:
        super().__init__()
        self._recognizer = recognizer

    def _words(self, samples: Int16, start: float) -> tuple[Word, ...]:
        stream = self._recognizer.create_stream()
        stream.accept_waveform(SAMPLE_RATE, samples.astype(np.float32) / np.float32(FULL_SCALE))
        self._recognizer.decode_stream(stream)
        found = stream.result
        end = start + samples.size / SAMPLE_RATE
        return words_of(found.tokens, found.timestamps, found.ys_log_probs, start, end, found.text)


def words_of(
    tokens: Sequence[str],
    times: Sequence[float],
    log_probs: Sequence[float],
    start: float,
    end: float,
    text: str = "",
) -> tuple[Word, ...]:
    """Word pieces as words.

    Parameters
    ----------
    tokens : pieces; one that begins a word has a mark or a space in front.
    times : second of the utterance at which each begins; Moonshine gives none.
    log_probs : natural logarithm of each piece's probability; may be empty.
    start, end : seconds of the stream between which the utterance lies.
    text : the whole text, for models that give no times.
    """
    if len(times) != len(tokens):
        return tuple(Word(word, start, end) for word in (text or "".join(tokens)).lower().split())
    groups: list[list[int]] = []
    for index, token in enumerate(tokens):
        begins = token[:1] in _MARKS or token.strip(_MARKS)[:1] >= _FIRST_IDEOGRAPH
        if begins or not groups:
            groups.append([])
        groups[-1].append(index)
    edges = [start + times[group[0]] for group in groups] + [end]
    words = []
    for group, begin, next_begin in zip(groups, edges, edges[1:], strict=False):
        word = "".join(tokens[i] for i in group).strip(_MARKS).lower()
        probabilities = [log_probs[i] for i in group] if len(log_probs) == len(tokens) else []
        confidence = (
            math.exp(min(0.0, sum(probabilities) / len(probabilities))) if probabilities else None
        )
        if word:
            words.append(Word(word, begin, max(begin, next_begin), confidence))
    return tuple(words)


def _part(folder: Path, name: str) -> Path | None:
    """`name*.onnx`, in int8 if there is a choice."""
    found = sorted(folder.glob(f"{name}*.onnx"), key=lambda path: "int8" not in path.name)
    return found[0] if found else None


def _unlike(folder: Path, why: str) -> TextError:
    return TextError(
        f"sherpa: {folder} is no model that it knows ({why}); expected {_LAYOUT}, from "
        "https://github.com/k2-fsa/sherpa-onnx/releases/tag/asr-models"
    )


ENGINE = Engine(
    forms=("sherpa:DIR",),
    package="sherpa_onnx",
    extra="sherpa",
    requirement="sherpa-onnx>=1.12",
    hears="[sherpa-onnx](https://github.com/k2-fsa/sherpa-onnx/releases/tag/asr-models): streaming "
    "zipformer, SenseVoice, Moonshine",
    proven="**not run with real weights**: a made-up model of SenseVoice's form is heard through; "
    "zipformer and Moonshine only up to loading",
    load=lambda argument, _: open_sherpa(Path(argument).expanduser()),
    model="a model folder from https://github.com/k2-fsa/sherpa-onnx/releases/tag/asr-models",
)
