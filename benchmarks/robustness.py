"""How a bundle fares where it will stand: corpora by conditions, ordinary speech, no speech.

Everything goes through the device's own path: end-pointing, features, int8 graphs. Clips of
labelled corpora are taken for one utterance each, as `accuracy` takes them; ordinary speech and
what is no speech are cut as a live stream is, so that nothing heard is a right answer, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.conditions import CONDITIONS, heard, possible
from benchmarks.errors import BenchmarkError
from benchmarks.live import SILENCE, final_labels
from benchmarks.nonspeech import sounds
from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.errors import AudioError
from edge_runtime.events import UNSURE
from edge_runtime.stream import judge_clip
from training.corpora import NEUTRAL, Utterance, class_indices
from training.data.cache import parallel
from training.data.surroundings import Surroundings, sources
from training.evaluate.metrics import Metrics, calibration_error, measure


@dataclass(frozen=True)
class Cell:
    """One corpus under one condition."""

    metrics: Metrics
    calibration_error: float
    """Expected calibration error of the verdicts' scores, 0 to 1."""
    unsure: float
    """Share of the verdicts that are "unsure", 0 to 1."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON of `accuracy`, and what is said above."""
        return {
            **self.metrics.to_dict(),
            "calibration_error": round(self.calibration_error, 4),
            "unsure": round(self.unsure, 4),
        }


@dataclass
class Robustness:
    """All figures of one bundle."""

    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    """Corpus to condition to figures."""
    ordinary: dict[str, Counter[str]] = field(default_factory=dict)
    """Condition to labels of the final verdicts on ordinary speech."""
    nonspeech: dict[str, list[str]] = field(default_factory=dict)
    """What was played, to the labels of the final verdicts on it; none is best."""
    skipped: int = 0
    """Clips that cannot be read, or whose label the bundle does not know."""

    def calm(self, condition: str) -> float:
        """Share of the verdicts on ordinary speech that are neutral or unsure, 0 to 1."""
        labels = self.ordinary[condition]
        return (labels[NEUTRAL] + labels[UNSURE]) / max(1, labels.total())

    def to_dict(self) -> dict[str, Any]:
        """The JSON of the command."""
        return {
            "corpora": {
                corpus: {name: cell.to_dict() for name, cell in row.items()}
                for corpus, row in self.cells.items()
            },
            "ordinary": {
                name: {"neutral_or_unsure": round(self.calm(name), 4), "labels": dict(labels)}
                for name, labels in self.ordinary.items()
            },
            "nonspeech": self.nonspeech,
            "skipped": self.skipped,
        }


@dataclass(frozen=True)
class Part:
    """A bundle, and what it is to judge."""

    bundle: str
    """Folder, .zip, or default."""
    labelled: dict[str, list[Utterance]]
    """Utterances by corpus."""
    ordinary: Sequence[Utterance] = ()
    """Speech without emotion, cut as a live stream."""


def robustness(parts: Sequence[Part], around: Surroundings, jobs: int | None = None) -> Robustness:
    """Judge corpora under every condition that `around` allows.

    Parameters
    ----------
    parts : one bundle, or those of folds: what they say of a corpus counts together.
    around : noises, rooms and voices, best such as did not train.
    jobs : processes at a time, by default one a core.

    Raises BenchmarkError for a bundle that hears nothing, and where no clip could be judged.
    """
    for part in parts:
        if "audio" not in load_bundle(part.bundle).manifest.modalities:
            raise BenchmarkError(
                f"bundle {part.bundle} hears nothing: there is no robustness to measure"
            )
    labels = list(load_bundle(parts[0].bundle).manifest.labels)
    names = [condition.name for condition in possible(sources(around))]
    result = Robustness()
    wanted: list[tuple[str, _Task]] = []  # corpus, and what is judged of it; none: ordinary speech
    for part in parts:
        for corpus, clips in part.labelled.items():
            mine = [u for u in clips if u.label in labels]
            result.skipped += len(clips) - len(mine)
            wanted += [(corpus, _Task(part.bundle, around, name, mine, False)) for name in names]
        if part.ordinary:
            plain = list(part.ordinary)
            wanted += [("", _Task(part.bundle, around, name, plain, True)) for name in names]
    tasks = [task for _, task in wanted]
    judged: dict[tuple[str, str], tuple[list[Utterance], list[_Verdict]]] = {}
    heard_all = parallel(_judge, tasks, jobs, "judging conditions", chunk=1)
    for (corpus, task), verdicts in zip(wanted, heard_all, strict=True):
        utterances, every = judged.setdefault((corpus, task.condition), ([], []))
        utterances += task.utterances
        every += verdicts
    for (corpus, name), (utterances, every) in judged.items():
        if not corpus:
            result.ordinary[name] = Counter(label for clip in every for label in clip or [])
            continue
        if name == names[0]:
            result.skipped += sum(verdict is None for verdict in every)
        result.cells.setdefault(corpus, {})[name] = _cell(corpus, utterances, every, labels)
    for number, part in enumerate(parts, 1):
        which = f", fold {number}" if len(parts) > 1 else ""
        sounds = _nonspeech(load_bundle(part.bundle), around)
        result.nonspeech |= {name + which: labels for name, labels in sounds.items()}
    return result


@dataclass(frozen=True)
class _Task:
    bundle: str
    around: Surroundings
    condition: str
    utterances: list[Utterance]
    live: bool


_Verdict = list[Any] | None


def _judge(task: _Task) -> list[_Verdict]:
    """Of each clip its scores and label, or live the labels of its verdicts; None if unreadable."""
    bundle, recordings = load_bundle(task.bundle), sources(task.around)
    condition = next(c for c in CONDITIONS if c.name == task.condition)
    whole = bundle.manifest.segment.whole()
    verdicts: list[_Verdict] = []
    with EmotionStream(
        bundle, segment=None if task.live else whole, partial_seconds=0, live=False
    ) as stream:
        for utterance in task.utterances:
            try:
                samples = read_file(utterance.audio, utterance.start, utterance.end)
            except AudioError:
                verdicts.append(None)
                continue
            if task.live:
                samples = np.concatenate([samples, SILENCE])
            changed = heard(samples, condition, utterance.audio.name, recordings)
            if task.live:
                verdicts.append(final_labels(stream, changed))
            else:
                verdict = judge_clip(stream, changed)
                scores = verdict and [verdict.scores[k] for k in bundle.manifest.labels]
                verdicts.append(None if verdict is None else [scores, verdict.label])
    return verdicts


def _cell(
    corpus: str, utterances: Sequence[Utterance], verdicts: Sequence[_Verdict], labels: list[str]
) -> Cell:
    judged = [(u, v) for u, v in zip(utterances, verdicts, strict=True) if v is not None]
    if not judged:
        raise BenchmarkError(f"{corpus}: no clip could be judged")
    scores: npt.NDArray[np.float64] = np.array([v[0] for _, v in judged])
    truth = np.array(class_indices([u for u, _ in judged], labels))
    speakers = [u.speaker for u, _ in judged]
    return Cell(
        measure(truth, scores.argmax(axis=1), labels, speakers),
        calibration_error(scores, truth),
        float(np.mean([v[1] == UNSURE for _, v in judged])),
    )


def _nonspeech(bundle: Bundle, around: Surroundings) -> dict[str, list[str]]:
    recordings = sources(around)
    played = sounds() | {f"noise {n}": x for n, x in enumerate(recordings.noises, 1)}
    with EmotionStream(bundle, partial_seconds=0, live=False) as stream:
        return {
            name: final_labels(stream, np.asarray(np.clip(32767 * x, -32768, 32767), np.int16))
            for name, x in played.items()
        }


def evenly(utterances: Sequence[Utterance], most: int) -> list[Utterance]:
    """At most so many utterances, evenly over classes and speakers, the same every time."""
    if len(utterances) <= most:
        return list(utterances)
    ordered = sorted(
        range(len(utterances)),
        key=lambda i: (utterances[i].label, str(utterances[i].speaker), str(utterances[i].path)),
    )
    places = np.linspace(0, len(ordered) - 1, most).round().astype(int)
    return [utterances[ordered[place]] for place in places]
