"""Words: what hears them, their tokens and their embedding rows. One file an engine.

An engine takes the samples of one utterance at a time and says what words it hears, with times.
It is imported only when it is chosen. Registered in `source_named`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_runtime.errors import MissingPackageError, TextError
from edge_runtime.events import Word
from edge_runtime.pcm import Int16


@dataclass(frozen=True)
class Transcript:
    """What an engine hears in one utterance, from its beginning up to now."""

    words: tuple[Word, ...]
    """In order of time; empty where nothing was understood."""
    final: bool
    """True once an utterance, when the engine will not change it any more."""
    start: float
    """Second of the stream at which the utterance began: which one this is, however late."""
    source: str
    """The engine: "keywords", "asr", "vosk"..."""

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(word.text for word in self.words)


class TextSource(Protocol):
    """An engine that hears words, loaded. Utterance by utterance: begin, feed..., end."""

    @property
    def name(self) -> str:
        """What its transcripts are marked with."""
        ...

    def begin(self, t: float) -> None:
        """An utterance begins at second `t` of the stream; one that is still open is dropped."""
        ...

    def feed(self, samples: Int16) -> Transcript | None:
        """Take samples of the utterance, int16, mono, 16 kHz, shape (n,).

        Returns what is heard so far where that has changed, else None.
        """
        ...

    def end(self) -> Transcript:
        """Close the utterance; what was heard in it. Raises TextError without a `begin`."""
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...


OFF = "off"

FORMS = ("keywords", "keywords:FILE", "asr", "vosk:DIR", "sherpa:DIR", "whisper:FILE")
"""What can be asked for by name: engines that hear words."""
GIVEN_FORMS = ("jsonl:FILE", "jsonl:-", "mqtt://HOST/TOPIC")
"""Words that somebody else hears."""
GIVEN_SCHEMES = ("jsonl:", "mqtt:")
"""How their names begin."""


@dataclass(frozen=True)
class _Needs:
    """What must be there before an engine can be loaded."""

    package: str
    """The module that is imported."""
    extra: str
    """The extra of this package that installs it."""
    model: str = ""
    """What to name after the colon, where the engine needs a model."""


_ENGINES = {
    "keywords": _Needs("pocketsphinx", "asr"),
    "asr": _Needs("pocketsphinx", "asr"),
    "vosk": _Needs("vosk", "vosk", "a model folder from https://alphacephei.com/vosk/models"),
    "sherpa": _Needs(
        "sherpa_onnx",
        "sherpa",
        "a model folder from https://github.com/k2-fsa/sherpa-onnx/releases/tag/asr-models",
    ),
    "whisper": _Needs(
        "pywhispercpp", "whisper", "a file from https://huggingface.co/ggerganov/whisper.cpp"
    ),
}


def check_source(name: str, keywords: Path | None = None) -> None:
    """Refuse what `source_named` cannot load, as far as that is seen without loading anything.

    Raises as `source_named` does.
    """
    kind, _, argument = name.partition(":")
    needs = _ENGINES.get(kind)
    if needs is None or (kind == "asr" and argument):
        raise unknown(name)
    if importlib.util.find_spec(needs.package) is None:
        raise MissingPackageError(f"text source {kind}", needs.package, needs.extra)
    if kind == "keywords":
        _keyword_list(argument, keywords)
    elif needs.model and not argument:
        raise TextError(f"text source {kind} needs {needs.model}: --text {kind}:PATH")
    elif needs.model and not Path(argument).exists():
        raise TextError(f"text source {kind}: there is no {argument}; it needs {needs.model}")


def source_named(name: str, keywords: Path | None = None) -> TextSource:
    """Load the engine of that name, into this process; takes seconds for some.

    Parameters
    ----------
    name : one of `FORMS`.
    keywords : the list that "keywords" spots, such as the bundle's.

    Raises
    ------
    TextError : an unknown name, or a model that is missing, damaged or of another kind.
    MissingPackageError : the engine's package is not installed.
    """
    check_source(name, keywords)
    kind, _, argument = name.partition(":")
    if kind == "keywords":
        from edge_runtime.text.engines.keywords import Keywords
        from edge_runtime.text.phrases import read_keywords

        return Keywords(read_keywords(_keyword_list(argument, keywords)))
    if kind == "vosk":
        from edge_runtime.text.engines.vosk import VoskSource

        return VoskSource(Path(argument))
    if kind == "sherpa":
        from edge_runtime.text.engines.sherpa import open_sherpa

        return open_sherpa(Path(argument))
    if kind == "whisper":
        from edge_runtime.text.engines.whisper import WhisperSource

        return WhisperSource(Path(argument))
    from edge_runtime.text.engines.asr import SphinxAsr

    return SphinxAsr()


def _keyword_list(argument: str, keywords: Path | None) -> Path:
    path = Path(argument) if argument else keywords
    if path is None:
        raise TextError("this bundle has no keyword list; name one: keywords:FILE")
    if not path.is_file():
        raise TextError(f"keywords: there is no file {path}")
    return path


def unknown(name: str) -> TextError:
    """The error for a name that is none."""
    if not name:
        return TextError("the text source has no name")
    return TextError(
        f"unknown text source {name!r}; there is {', '.join((OFF, *FORMS, *GIVEN_FORMS))}"
    )


def spell(word: str) -> str:
    """A word as the dictionary of an engine writes it, as text: "read(2)" is "read"."""
    return word.partition("(")[0].lower()
