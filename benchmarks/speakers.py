"""What it is worth to know the speaker: verdicts after histories of many kinds, beside cold ones.

Over the folds of a crossval: nobody who is judged, or heard before, trained the model of his fold.
What a fold's bundle pools of each clip goes through the device's own code, utterance by utterance,
in the order of the history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.errors import BenchmarkError
from benchmarks.live import SILENCE, final_labels
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bench import speechlike_noise
from edge_runtime.bundle import Bundle
from edge_runtime.events import UNSURE
from edge_runtime.manifest import AUDIO, PRETRAINED
from edge_runtime.model.familiarity import Familiarity, tempered
from edge_runtime.model.fusion import softmax
from edge_runtime.model.pretrained import Pretrained, with_encoder
from edge_runtime.model.reference import Reference
from training.corpora import NEUTRAL, Utterance, class_indices
from training.evaluate.adapted import Along, adapt, crossval_parts, enrolment_ratios
from training.evaluate.crossval_files import BUNDLE, bundle_of
from training.evaluate.histories import CHANGES, ENROLLED, TRAINED, Speakers
from training.evaluate.metrics import Metrics, calibration_error, measure
from training.evaluate.pretrained import hear_states, opinions
from training.evaluate.reference import Heard, hear
from training.tiers import SMALL

COLD = "cold"
DRAWS = 2  # histories of each kind a clip


@dataclass
class Worth:
    """All figures of one crossval."""

    cells: dict[str, dict[str, Metrics]] = field(default_factory=dict)
    """Kind of history, cold first, to corpus to figures."""
    calibration_error: dict[str, float] = field(default_factory=dict)
    """Of each kind, over all corpora, 0 to 1."""
    doubted: dict[str, float] = field(default_factory=dict)
    """Of each kind how often it was taken for more likely than not that the speaker changed."""
    enrolments: dict[str, float] = field(default_factory=dict)
    """How often ten seconds are refused as of two people: of one voice, of two."""
    calm: dict[str, float] = field(default_factory=dict)
    """Share of neutral or unsure among the verdicts on ordinary speech, cold and adapting."""
    cost: float = 0.0
    """What adapting costs, over the time of the graphs."""

    def gain(self, kind: str) -> float:
        """Mean over the corpora of the UA after such a history less the cold one, points."""
        cold, warm = self.cells[COLD], self.cells[kind]
        return 100 * float(np.mean([warm[c].ua - cold[c].ua for c in cold if c in warm]))

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the command."""
        return {
            "histories": {
                kind: {
                    "gain": round(self.gain(kind), 2),
                    "calibration_error": round(self.calibration_error[kind], 4),
                    "taken_for_another_speaker": round(self.doubted.get(kind, 0.0), 4),
                    "corpora": {corpus: m.to_dict() for corpus, m in row.items()},
                }
                for kind, row in self.cells.items()
            },
            "enrolments_refused": {k: round(v, 4) for k, v in self.enrolments.items()},
            "ordinary_neutral_or_unsure": {k: round(v, 4) for k, v in self.calm.items()},
            "cost": round(self.cost, 4),
        }


def worth(
    crossval: Path,
    utterances: Sequence[Utterance],
    ordinary: Sequence[Utterance],
    jobs: int | None = None,
    tier: str = SMALL,
) -> Worth:
    """Measure every kind of history over the folds of a finished crossval.

    Parameters
    ----------
    crossval : its folds' bundles have a reference part.
    utterances : labelled speech that it judged.
    ordinary : speech without emotion, streamed through the first fold's bundle as a device hears
        it; it may have trained that.
    jobs : processes that listen; by default one a core.
    tier : whose bundles of the folds are asked.

    Raises BenchmarkError or TrainingError where the bundles are not as they have to be.
    """
    folds: list[_Fold] = []
    for fold, tested, logits in crossval_parts(crossval, utterances):
        bundle = load_bundle(bundle_of(fold, tier))
        if bundle.manifest.reference is None:
            raise BenchmarkError(
                f"{bundle.source} adapts to nobody: python -m training reference {crossval} "
                "NAME=PATH... comes first"
            )
        if not tested:
            continue
        heard, places = hear(str(fold / BUNDLE), tested, jobs)
        temperature = bundle.manifest.calibration[AUDIO].temperature
        cold = softmax(logits[AUDIO][places], temperature)
        small = _Fold(bundle, heard, cold)
        folds.append(small if tier == SMALL else _hearing_along(small, jobs))
    result = Worth()
    _judge(result, folds)
    labels = folds[0].bundle.manifest.labels
    for name, strangers in (("one voice", 0), ("two, one utterance", 1), ("two, half each", 2)):
        refused = [
            ratio < fold.one_voice
            for fold in folds
            for ratio in enrolment_ratios(fold.bundle, fold.heard, labels, strangers=strangers)
        ]
        result.enrolments[name] = float(np.mean(refused)) if refused else 0.0
    if ordinary:
        for name, adapting in ((COLD, False), ("adapting", True)):
            result.calm[name] = _calm(folds[0].bundle, ordinary, adapting)
    result.cost = cost(folds[0].bundle)
    return result


@dataclass(eq=False)
class _Fold:
    bundle: Bundle
    heard: Heard
    cold: npt.NDArray[np.float32]
    """By the model alone, before what is unlike all that trained is made less sure."""
    along: Along | None = None
    """What the pre-trained encoder hears, where one does."""

    @property
    def one_voice(self) -> float:
        part = self.bundle.manifest.reference
        return part.one_voice if part else 0.0

    def alone(self) -> npt.NDArray[np.float32]:
        """The verdicts without a reference, as the device gives them."""
        part, scores = self.bundle.manifest.pretrained, self.cold
        if self.along is not None and part is not None:
            pairs = zip(scores, self.along.said.tolist(), strict=True)
            scores = np.stack([with_encoder(own, said, AUDIO, part) for own, said in pairs])
        if self.bundle.manifest.familiarity is None:
            return scores
        known = Familiarity(self.bundle)
        by = [known.factor_of(standard) for standard in self.heard.standard]
        return np.stack([tempered(row, factor) for row, factor in zip(scores, by, strict=True)])


def _hearing_along(fold: _Fold, jobs: int | None) -> _Fold:
    """The fold with what the pre-trained encoder says of each clip."""
    arrays = fold.bundle.pretrained()
    assert arrays is not None
    segment = fold.bundle.manifest.segment
    graph = Path(fold.bundle.source) / fold.bundle.manifest.graphs[PRETRAINED].file
    states, places = hear_states(fold.heard.utterances, segment, jobs=jobs, graph=graph)
    along = Along(states.values[:, 0], opinions(arrays, states.values[:, 0]))
    return _Fold(fold.bundle, fold.heard.take(places), fold.cold[places], along)


def _judge(result: Worth, folds: Sequence[_Fold]) -> None:
    labels = list(folds[0].bundle.manifest.labels)
    for kind, draw in {COLD: None, **TRAINED, **CHANGES}.items():
        scores, doubts = [], []
        people = [u for fold in folds for u in fold.heard.utterances]
        draws = DRAWS if draw else 1
        for number in range(draws):
            for fold in folds:
                if draw is None:
                    scores.append(fold.alone())
                    continue
                speakers = Speakers(fold.heard.utterances, labels, seed=number)
                enrolled = kind == ENROLLED
                found = adapt(
                    fold.bundle, fold.heard, fold.cold, draw, speakers, enrolled, along=fold.along
                )
                scores.append(found.scores)
                doubts.append(found.changed[~np.isnan(found.changed)] > 0.5)
        every, people = np.concatenate(scores), people * draws
        truth = np.array(class_indices(people, labels))
        corpora = np.array([u.corpus for u in people])
        result.calibration_error[kind] = calibration_error(every, truth)
        told = np.concatenate(doubts) if doubts else np.empty(0, bool)
        if told.size:  # nobody has such a history where there are few clips
            result.doubted[kind] = float(told.mean())
        row = result.cells.setdefault(kind, {})
        for corpus in dict.fromkeys(corpora.tolist()):
            of_it = corpora == corpus
            who = [u.speaker for u, chosen in zip(people, of_it, strict=True) if chosen]
            row[corpus] = measure(truth[of_it], every[of_it].argmax(axis=1), labels, who)


def _calm(bundle: Bundle, ordinary: Sequence[Utterance], adapting: bool) -> float:
    """Share of neutral and unsure among the final verdicts on clips, each by its own speaker."""
    labels: list[str] = []
    with EmotionStream(bundle, partial_seconds=0, live=False, adapt=adapting) as stream:
        for utterance in ordinary:
            stream.restart()
            samples = read_file(utterance.audio, utterance.start, utterance.end)
            labels += final_labels(stream, np.concatenate([samples, SILENCE]))
    return float(np.mean([label in (NEUTRAL, UNSURE) for label in labels])) if labels else 0.0


def cost(bundle: Bundle, utterances: int = 40, seconds: float = 2.5) -> float:
    """Time that a running reference takes, over that of the graphs: utterances of some seconds.

    As a stream asks it: four times a second, and once more at the end, where it learns.
    """
    stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole())
    signal = speechlike_noise(seconds)
    for number in range(utterances + 1):
        stream.feed(signal)
        stream.finish()
        if not number:
            warm_up = stream.times.graph
    graphs = (stream.times.graph - warm_up) / utterances
    heard = stream.recognizer.last
    if heard is None:
        return 0.0
    audio, states = heard.audio, None
    if bundle.manifest.pretrained:
        encoder = Pretrained(bundle)
        encoder.feed(signal)
        states = encoder.finish()
    reference = Reference(bundle, running=True)
    spent = []
    for _ in range(utterances):
        begin = perf_counter()
        for number in range(round(4 * seconds) + 1):
            # The encoder has nothing to say before the end of an utterance or a window.
            last = number == round(4 * seconds)
            encoded = reference.standardize_encoded(states if last else None)
            standard = reference.standardize(audio)
            opinion = reference.opinion(standard, encoded)
        reference.learn(standard, opinion, seconds, encoded)
        spent.append(perf_counter() - begin)
    return float(np.median(spent)) / graphs
