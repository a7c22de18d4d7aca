"""Vosk: Kaldi models of some twenty languages in a folder (https://alphacephei.com/vosk/models).

Results are JSON as documented in its vosk_api.h: {"result": [{"conf", "end", "start", "word"}],
"text"} and {"partial", "partial_result": [...]}.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_runtime.errors import TextError
from edge_runtime.events import Word
from edge_runtime.pcm import SAMPLE_RATE, Int16
from edge_runtime.text import Transcript
from edge_runtime.text.engines import Engine


class VoskSource:
    """A Vosk model in the folder `model`. TextError where that is none."""

    name = "vosk"
    notes: tuple[str, ...] = ()

    def __init__(self, model: Path) -> None:
        import vosk

        self._vosk = vosk
        vosk.SetLogLevel(-1)
        try:
            self._model = vosk.Model(model_path=str(model))
        except Exception as error:  # it raises nothing more special
            raise TextError(
                f"vosk cannot open {model} ({error}); expected an unpacked model from "
                "https://alphacephei.com/vosk/models, which has am/ and conf/ in it"
            ) from None
        self._recognizer: Any = None
        self._start = 0.0
        self._closed: list[Word] = []
        self._said: tuple[Word, ...] = ()

    def restart(self) -> None:
        """See TextSource."""
        self._recognizer = None

    def begin(self, t: float) -> None:
        """See TextSource."""
        # A new one each time: its clock begins at 0, and the model is shared.
        self._recognizer = self._vosk.KaldiRecognizer(self._model, float(SAMPLE_RATE))
        self._recognizer.SetWords(True)
        self._recognizer.SetPartialWords(True)
        self._start, self._closed, self._said = t, [], ()

    def feed(self, samples: Int16) -> Transcript | None:
        """See TextSource. Its own end-points in longer utterances only close a part of them."""
        if self._recognizer is None:
            raise TextError("vosk: samples before an utterance began")
        if self._recognizer.AcceptWaveform(samples.tobytes()):
            self._closed += parse(self._recognizer.Result(), self._start)
            words = tuple(self._closed)
        else:
            words = (*self._closed, *parse(self._recognizer.PartialResult(), self._start))
        if words == self._said:
            return None
        self._said = words
        return Transcript(words, False, self._start, self.name)

    def end(self) -> Transcript:
        """See TextSource."""
        if self._recognizer is None:
            raise TextError("vosk: an utterance ended that had not begun")
        words = (*self._closed, *parse(self._recognizer.FinalResult(), self._start))
        self._recognizer = None
        return Transcript(words, True, self._start, self.name)

    def close(self) -> None:
        """See TextSource."""
        self._recognizer = None


def parse(result: str, start: float) -> list[Word]:
    """Words of a result, final or partial, of an utterance that began at second `start`.

    Without a language model's lattice there are no word times; the text then stands at `start`.
    """
    answer = json.loads(result)
    items = answer.get("result", answer.get("partial_result"))
    if items is None:
        text = answer.get("text", answer.get("partial", ""))
        return [Word(word, start, start) for word in text.split()]
    return [
        Word(item["word"].lower(), start + item["start"], start + item["end"], item.get("conf"))
        for item in items
    ]


ENGINE = Engine(
    forms=("vosk:DIR",),
    package="vosk",
    extra="vosk",
    requirement="vosk>=0.3.45",
    hears="a [Vosk model](https://alphacephei.com/vosk/models)",
    proven="**not run end to end**: no model at hand; package called, results parsed as documented",
    load=lambda argument, _: VoskSource(Path(argument).expanduser()),
    model="a model folder from https://alphacephei.com/vosk/models",
)
