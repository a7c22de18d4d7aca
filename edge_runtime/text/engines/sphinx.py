"""What the engines made of pocketsphinx share: its model, opened, and getting used to a channel.

It subtracts running means from its cepstra, which start as those of nobody's microphone and count
for 5 s of speech at first: whatever is said into a new stream is heard badly. Here the means are
measured on the beginning of the first utterance, and the search then starts with them. The words of
RAVDESS's 80 neutral clips, each a stream's first, had 27.1 % errors without this; with means of
their first 1, 1.5 and 2 s 22.1, 14.6 and 20.2 %, of all of them 19.2 %.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_runtime.errors import MissingPackageError, TextError
from edge_runtime.events import Word
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.text import Transcript

if TYPE_CHECKING:
    import pocketsphinx

PACKAGE, EXTRA, REQUIREMENT = "pocketsphinx", "asr", "pocketsphinx>=5.1"

FRAME_SECONDS = 0.01  # its frames
# End-pointing cuts within 100 ms of the last voiced frame. Without silence to end on, the search
# loses last words: of five RAVDESS clips it spotted "by the door" in two, with it in all.
_TAIL = np.zeros(3 * SAMPLE_RATE // 10, np.int16)
_BEGINNING = 3 * SAMPLE_RATE // 2  # samples in which the means of a new stream are measured
_LEAST = SAMPLE_RATE // 4  # samples that say anything about them
_QUIET = 33.0  # root mean square of samples that say nothing about them: -60 dB of full scale
_PRIOR_FRAMES = 500  # that means count for once they are set (CMN_WIN in pocketsphinx's cmn.h)


_DICTIONARIES, _LANGUAGES = ("*.dict", "*.dic"), ("*.lm.bin", "*.lm")
_PARTS = ("mdef", "means", "variances", "transition_matrices")
_SHOWN = 3  # words with a foreign phone that are named


@dataclass(frozen=True)
class SphinxModel:
    """Files of a language in CMU Sphinx's form."""

    folder: Path
    """Holds the acoustic model: mdef, means, variances, transition_matrices..."""
    dictionary: Path
    """A word and its phones a line."""
    language: Path | None = None
    """An n-gram model of words; None where only phrases are spotted."""


def model_in(folder: Path, dictionary: Path | None = None, words: bool = False) -> SphinxModel:
    """The model in a folder, as far as it is seen without opening it.

    Parameters
    ----------
    folder : see `SphinxModel`; the dictionary (.dict or .dic) and the language model (.lm.bin or
        .lm) lie beside the acoustic model.
    dictionary : instead of the one in the folder.
    words : whether a language model is wanted.

    Raises TextError where a part is missing or there are two to choose from.
    """
    if not folder.is_dir():
        raise TextError(f"there is no folder {folder}; it holds an acoustic model of pocketsphinx")
    lacking = [name for name in _PARTS if not (folder / name).is_file()]
    if lacking:
        raise TextError(
            f"{folder} holds no acoustic model of pocketsphinx: it lacks {', '.join(lacking)}"
        )
    if dictionary is not None and not dictionary.is_file():
        raise TextError(f"there is no dictionary {dictionary}")
    return SphinxModel(
        folder,
        dictionary or _only(folder, _DICTIONARIES, "dictionary"),
        _only(folder, _LANGUAGES, "language model") if words else None,
    )


def _only(folder: Path, patterns: tuple[str, ...], what: str) -> Path:
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        has = f"has {names}; keep one" if found else "has none"
        raise TextError(f"{folder} needs one {what} ({' or '.join(patterns)}) and {has}")
    return found[0]


def open_decoder(model: SphinxModel | None = None, **options: Any) -> pocketsphinx.Decoder:
    """A decoder on a model; TextError where that cannot be opened.

    Parameters
    ----------
    model : None for the US English one of its package, whose language model it has, too.
    options : pocketsphinx's own, such as `lm=None` for one without a language model.

    Raises MissingPackageError without pocketsphinx, and TextError for a dictionary with phones that
    the model does not have, or a model of another sample rate.
    """
    try:
        import pocketsphinx
    except ImportError:
        raise MissingPackageError("hearing words with pocketsphinx", PACKAGE, EXTRA) from None
    if model is not None:
        options |= {"hmm": str(model.folder), "dict": str(model.dictionary)}
        options |= {"lm": str(model.language) if model.language else None}
    try:
        decoder = pocketsphinx.Decoder(**{"loglevel": "FATAL", **options})
    except RuntimeError as error:
        if model is not None:
            raise TextError(
                f"pocketsphinx cannot open the model in {model.folder} with {model.dictionary} "
                f"({error})"
            ) from None
        raise TextError(
            f"pocketsphinx cannot open its model in {pocketsphinx.get_model_path()} ({error}); "
            "install it again: pip install --force-reinstall pocketsphinx"
        ) from None
    if model is not None:
        _check(decoder, model)
    return decoder


def _check(decoder: pocketsphinx.Decoder, model: SphinxModel) -> None:
    """Refuse what pocketsphinx passes over: another sample rate, words with unknown phones."""
    rate = decoder.config["samprate"]
    if rate != SAMPLE_RATE:
        raise TextError(f"the model in {model.folder} is for {rate:g} Hz, not {SAMPLE_RATE} Hz")
    try:
        lines = model.dictionary.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"dictionary {model.dictionary} cannot be read: {error}") from None
    lost = []
    for number, line in enumerate(lines, 1):
        word, *phones = line.split() or [""]
        if word and not word.startswith((";;", "##")) and decoder.lookup_word(word) is None:
            lost.append((number, word, phones))
    if not lost:
        return
    foreign = sorted({p for _, _, phones in lost for p in phones if not knows(decoder, p)})
    named = ", ".join(f"{word!r} (line {n})" for n, word, _ in lost[:_SHOWN])
    more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
    why = (
        f"the model in {model.folder} has no phone {', '.join(foreign)}" if foreign else "no phones"
    )
    raise TextError(f"dictionary {model.dictionary}: {named}{more} cannot be spoken: {why}")


def pronunciation(decoder: pocketsphinx.Decoder, word: str) -> str | None:
    """Phones of a lower-case word by a decoder's dictionary, in whatever case; None without."""
    for written in (word, word.capitalize(), word.upper()):
        found: str | None = decoder.lookup_word(written)
        if found is not None:
            return found
    return None


def knows(decoder: pocketsphinx.Decoder, phone: str) -> bool:
    """Whether a decoder's acoustic model has a phone; a word is left in its dictionary for it."""
    probe = f"<{phone}>"
    if decoder.lookup_word(probe) is not None:
        return True
    try:
        decoder.add_word(probe, phone, False)
    except RuntimeError:
        return False
    return True


class SphinxSource(ABC):
    """A TextSource on a decoder, whatever it searches for.

    The first utterance is held back until its beginning tells how this channel sounds. From then
    on cepstral means adapt from utterance to utterance, as they should on a device with one
    microphone; `restart` starts afresh.
    """

    name: ClassVar[str] = ""
    notes: tuple[str, ...] = ()

    def __init__(self, decoder: pocketsphinx.Decoder) -> None:
        self._decoder = decoder
        self._nobodys = decoder.get_cmn()
        self._start: float | None = None
        self._said: tuple[Word, ...] = ()
        self._settled = False  # whether the means are of this channel
        self._held: bytearray | None = None  # of an utterance whose search has not begun

    def begin(self, t: float) -> None:
        """See TextSource."""
        if self._start is not None and self._held is None:
            self._decoder.end_utt()
        self._held = None if self._settled else bytearray()
        if self._settled:
            self._decoder.start_utt()
        self._start, self._said = t, ()

    def feed(self, samples: Int16) -> Transcript | None:
        """See TextSource."""
        if self._start is None:
            raise TextError(f"{self.name}: samples before an utterance began")
        if self._held is None:
            self._hear(samples.tobytes())
        else:
            self._held += samples.tobytes()
            if len(self._held) < 2 * _BEGINNING:
                return None
            self._settle()
        words = self._words(self._start, False)
        if words == self._said:
            return None
        self._said = words
        return Transcript(words, False, self._start, self.name)

    def end(self) -> Transcript:
        """See TextSource."""
        if self._start is None:
            raise TextError(f"{self.name}: an utterance ended that had not begun")
        if self._held is not None:
            self._settle()
        self._decoder.process_raw(_TAIL.tobytes())
        self._decoder.end_utt()
        start, self._start = self._start, None
        return Transcript(self._words(start, True), True, start, self.name)

    def restart(self) -> None:
        """Hear the next utterance as the first: what was learned of the channel is dropped."""
        if self._start is not None and self._held is None:
            self._decoder.end_utt()
        self._start = self._held = None
        self._decoder.set_cmn(self._nobodys)
        self._decoder.start_stream()  # what it knows of the noise
        self._settled = False

    def _settle(self) -> None:
        """Begin the search with what was held back, and with its own means."""
        assert self._held is not None
        held, self._held = bytes(self._held), None
        beginning = held[: 2 * _BEGINNING]  # however long the block was that it came in
        if _tells(beginning):
            self._decoder.set_cmn(self._nobodys)
            self._decoder.start_utt()
            self._decoder.process_raw(beginning, no_search=True)
            self._decoder.end_utt()
            frames = len(beginning) / 2 / (FRAME_SECONDS * SAMPLE_RATE)
            before, after = (
                np.array([float(x) for x in means.split(",")])
                for means in (self._nobodys, self._decoder.get_cmn())
            )
            # What it has now is the mean of both, by their frames.
            measured = before + (after - before) * (_PRIOR_FRAMES + frames) / frames
            self._decoder.set_cmn(",".join(f"{mean:.2f}" for mean in measured))
            self._settled = True
        self._decoder.start_utt()
        self._hear(held)

    def _hear(self, samples: bytes) -> None:
        if samples:  # it raises for none
            self._decoder.process_raw(samples)

    def close(self) -> None:
        """See TextSource; nothing outlives the object."""
        self._start = None

    def _segments(self) -> list[pocketsphinx.Segment]:
        """What the search found, in order of time; asking without a hypothesis would raise."""
        return list(self._decoder.seg() or ()) if self._decoder.hyp() else []

    @abstractmethod
    def _words(self, start: float, final: bool) -> tuple[Word, ...]:
        """What is heard so far in the utterance that began at second `start`."""


def _tells(samples: bytes) -> bool:
    """Whether PCM16 says how a channel sounds: there is enough of it, and it is not silence."""
    values = np.frombuffer(samples, np.int16).astype(np.float32)
    return len(values) >= _LEAST and float(np.sqrt(np.mean(values**2))) >= _QUIET
