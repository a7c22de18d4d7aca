"""faster-whisper: Whisper in CTranslate2's form, in a folder (https://huggingface.co/Systran).

Whisper hears 30 s at a time, shorter utterances padded, and the padding costs as much as speech
does. Here an utterance is padded to 10 s, and by 1 s at least: of the words of 60 clips of RAVDESS
and of 60 spoken sentences of MELD, tiny.en got 1.9 and 13.0 % wrong so, and 2.2 and 15.3 % with
30 s, which took four times as long. With less it says again what it has heard: 3.6 and 19.7 % with
1 s behind the utterance alone.

The folder is never looked for anywhere but where it is named: nothing is downloaded.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_runtime.errors import TextError
from edge_runtime.events import Word
from edge_runtime.pcm import FULL_SCALE, SAMPLE_RATE, Float32, Int16
from edge_runtime.text.engines import Engine
from edge_runtime.text.engines.pieces import RehearingSource, spoken

if TYPE_CHECKING:
    from faster_whisper.transcribe import Segment

_WHERE = "https://huggingface.co/Systran, such as faster-whisper-tiny.en"
_FILES = ("model.bin", "config.json", "tokenizer.json")
_VOCABULARY = ("vocabulary.json", "vocabulary.txt")
_HEAD = struct.Struct("<IH")  # of model.bin: version, length of the name that follows
_KIND = "WhisperSpec"
_FRAME = SAMPLE_RATE // 100  # samples
_WINDOW = 30 * SAMPLE_RATE  # that it hears at a time, at most
_LEAST_WINDOW = 10 * SAMPLE_RATE
# End-pointing cuts close to the first sound, and Whisper was trained on speech that begins later:
# of the words of 140 spoken sentences of MELD 19.2 % were wrong without this, 16.9 % with it.
_LEAD = SAMPLE_RATE // 5
_SILENCE = SAMPLE_RATE  # after the utterance, at least
_REST_SECONDS = 0.5  # after the last word, that need not be heard
# Nobody says more tokens, so that a model that repeats itself costs no more than one that does not.
_TOKENS, _TOKENS_PER_SECOND = 10, 10
_BEAM = 5  # for final words; 1 for those that may still change
_AS_FIGURES = "0123456789%$£€"  # tokens with them are not written: it is words that are felt


class FasterWhisperSource(RehearingSource):
    """The model in `folder`. TextError where that is none.

    A model of many languages hears in every utterance which it is.
    """

    name = "faster-whisper"

    def __init__(self, folder: Path) -> None:
        _check(folder)
        super().__init__()
        try:
            self._model = _load(folder)
            self._figures = [
                token
                for text, token in self._model.hf_tokenizer.get_vocab().items()
                if not text.startswith("<|") and any(sign in text for sign in _AS_FIGURES)
            ]
            # Files that do not belong together are found out by what they hear.
            self._hear(np.zeros(_FRAME, np.int16), 0.0, 1)
        except Exception as error:  # of two libraries, which raise nothing more special
            raise _unlike(folder, " ".join(str(error).split())) from None

    def _words(self, samples: Int16, start: float) -> tuple[Word, ...]:
        return self._hear(samples, start, _BEAM)

    def _words_so_far(self, samples: Int16, start: float) -> tuple[Word, ...]:
        return self._hear(samples, start, 1)

    def _hear(self, samples: Int16, start: float, beam: int) -> tuple[Word, ...]:
        media: Float32 = np.pad(samples, (_LEAD, 0)).astype(np.float32) / FULL_SCALE
        self._model.window = min(_WINDOW, max(_LEAST_WINDOW, media.size + _SILENCE))
        segments, _ = self._model.transcribe(
            media,
            language="en",  # unless the next says otherwise
            multilingual=self._model.model.is_multilingual,
            beam_size=beam,
            temperature=0.0,
            condition_on_previous_text=False,
            max_new_tokens=_TOKENS + _TOKENS_PER_SECOND * min(_WINDOW, media.size) // SAMPLE_RATE,
            suppress_tokens=[-1, *self._figures],
            word_timestamps=True,
        )
        words: list[Word] = []
        for segment in segments:
            words += words_of(segment, start)
            # Asked for more, it would hear the little that is left by itself, and find words in it.
            if media.size / SAMPLE_RATE - segment.end < _REST_SECONDS:
                break
        return tuple(words)


def words_of(segment: Segment, start: float) -> list[Word]:
    """What it heard after `_LEAD`, of an utterance that began at second `start`, as words."""
    words: list[Word] = []
    for heard in segment.words or ():
        begin, end = (
            start + max(0.0, float(t) - _LEAD / SAMPLE_RATE) for t in (heard.start, heard.end)
        )
        text, sure = spoken(heard.word), min(1.0, float(heard.probability))
        if text and words and heard.word[0] == "'":  # y'all comes in two parts
            last = words.pop()
            sure = min(sure, last.confidence or 0.0)
            words.append(Word(f"{last.text}'{text}", last.start, end, sure))
        elif text:
            words.append(Word(text, begin, end, sure))
    return words


def _load(folder: Path) -> Any:
    """The model, with a window that can be set, in samples."""
    from faster_whisper import WhisperModel

    class Windowed(WhisperModel):  # type: ignore[misc]  # it has no types
        window = _WINDOW

        def encode(self, features: Float32) -> Any:
            """The encoder's states of as much of the 30 s as the window has, (1, frames / 2, n)."""
            frames = -(-self.window // (2 * _FRAME)) * 2
            return super().encode(features[..., :frames])

    return Windowed(
        str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
    )


def _check(folder: Path) -> None:
    """Refuse what is no model folder, without the libraries; one would go and ask for its files."""
    if not folder.is_dir():
        raise _unlike(folder, "it is no folder")
    lacking = [name for name in _FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _VOCABULARY):
        lacking.append(_VOCABULARY[0])
    if lacking:
        raise _unlike(folder, f"there is no {' and no '.join(lacking)}")
    try:
        with (folder / _FILES[0]).open("rb") as file:
            _, length = _HEAD.unpack(file.read(_HEAD.size))
            kind = file.read(length).rstrip(b"\0").decode("ascii")
    except (OSError, struct.error, UnicodeDecodeError):
        kind = ""
    if kind != _KIND:
        raise _unlike(folder, f"its model.bin begins with {kind[:40]!r} instead of {_KIND!r}")


def _unlike(folder: Path, why: str) -> TextError:
    return TextError(
        f"faster-whisper: {folder} is no CTranslate2 model of Whisper ({why}); expected "
        f"{', '.join(_FILES)} and {' or '.join(_VOCABULARY)} in a folder, from {_WHERE}"
    )


ENGINE = Engine(
    forms=("faster-whisper:DIR",),
    package="faster_whisper",
    extra="faster-whisper",
    requirement="faster-whisper>=1.2",
    hears="[faster-whisper](https://github.com/SYSTRAN/faster-whisper): Whisper in CTranslate2's "
    "[form](https://huggingface.co/Systran)",
    proven="run, tested on real speech with Whisper tiny.en: [below](#faster-whisper)",
    load=lambda argument, _: FasterWhisperSource(Path(argument).expanduser()),
    model=f"a model folder from {_WHERE}",
    check=lambda argument, _: _check(Path(argument).expanduser()),
)
