"""Every word, with no download: pocketsphinx's large-vocabulary search and its US English model.

Or a folder with another model in CMU Sphinx's form.

Huggins-Daines et al. 2006, doi 10.1109/ICASSP.2006.1659988; the wheel of pocketsphinx 5 holds the
acoustic model, a dictionary of 135,000 words and a trigram language model.
"""

from __future__ import annotations

from pathlib import Path

from edge_runtime.events import Word
from edge_runtime.text import spell
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
)

_FILLERS = "<[+"  # silence, sentence marks and noises stand in brackets


class SphinxAsr(SphinxSource):
    """Large-vocabulary recognition, of US English where no model is given.

    Raises TextError where the model is damaged.

    Partial words have no confidence; final ones have the posterior of the word lattice.
    """

    name = "asr"

    def __init__(self, model: SphinxModel | None = None) -> None:
        super().__init__(open_decoder(model))

    def _words(self, start: float, final: bool) -> tuple[Word, ...]:
        return tuple(
            Word(
                spell(segment.word),
                start + segment.start_frame * FRAME_SECONDS,
                start + (segment.end_frame + 1) * FRAME_SECONDS,
                min(1.0, segment.prob) if final else None,
            )
            for segment in self._segments()
            if segment.word[0] not in _FILLERS
        )


def _model(argument: str, _: object = None) -> SphinxModel | None:
    """The model in the folder that is named; None for the package's own."""
    return model_in(Path(argument).expanduser(), words=True) if argument else None


ENGINE = Engine(
    forms=("asr", "asr:DIR"),
    package=PACKAGE,
    extra=EXTRA,
    requirement=REQUIREMENT,
    hears="pocketsphinx, 135,000 words of US English; or a folder of another language",
    proven="run, tested on real speech; its model is in the package",
    load=lambda argument, _: SphinxAsr(_model(argument)),
    check=_model,
)
