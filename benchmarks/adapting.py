"""What adapting to few clips is worth, beside training from nothing and beside ComParE and an SVM.

A quarter of a corpus's speakers is drawn to test on, then clips of the others, of each class alike;
every way learns from the same clips and is judged on the same speakers. Of one draw fewer clips are
among more of them.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.output import write_json
from benchmarks.peers.opensmile_sets import extract as extract_set
from benchmarks.peers.svm import classifier
from benchmarks.trial import ADAPT, COMPARE, FIT, WAYS, WITH_ENCODER, Trial
from edge_runtime.manifest import AUDIO
from edge_runtime.pcm import Float32
from training.adapt.adapt import HeadData, fit_run
from training.adapt.base import Base, encoder_view, open_base
from training.adapt.clips import inspect
from training.adapt.cross import choose_strength, plan_folds
from training.adapt.head import View, quantized_logits
from training.commands.common import ModelSettings, config_of
from training.corpora import Found, Utterance, class_indices, kind_of
from training.data.features import FeatureSettings, extract
from training.data.folds import Fold, check_classes
from training.evaluate.metrics import measure
from training.evaluate.predict import predict
from training.evaluate.pretrained import opinions, together
from training.fit.fit import fit, run_of
from training.fit.prepare import WordPlan, prepare
from training.fit.remedy import remedied
from training.fit.warmstart import Branches
from training.network.fakequant import Phase
from training.run import DEFAULT_RUN, load
from training.tiers import LARGE, SMALL

SHARE = 0.25  # of the speakers, to test on
SVM_C = 10.0
PROTOCOL = (
    "clips of one corpus, of each class alike; UA of a quarter of its speakers, drawn first, none "
    "of whom trains; mean and deviation of draws; networks imitate int8"
)
_ATTEMPTS = 100  # at speakers who have every class, on both sides

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    corpus: str
    clips: int
    draw: int
    """Seed of the draw, from 0 on."""
    way: str
    ua: float
    """Of the draw's test speakers, 0 to 1."""
    data: str
    """Digest of the clips that train and test."""
    learner: str
    """Digest of what learns from them: of a base, its weights."""


@dataclass(frozen=True)
class Draw:
    """Places of utterances."""

    test: list[int]
    """All clips of the speakers who test."""
    train: list[list[int]]
    """Those of the others, class by class, in the order in which they are taken."""

    def fold(self, clips: int) -> Fold | None:
        """The draw's first `clips`, of each class alike; None where there are fewer."""
        sizes = [len(part) for part in np.array_split(np.arange(clips), len(self.train))]
        if any(len(own) < size for own, size in zip(self.train, sizes, strict=True)):
            return None
        chosen = [own[:size] for own, size in zip(self.train, sizes, strict=True)]
        return Fold(sorted(place for own in chosen for place in own), self.test)


def draw(utterances: Sequence[Utterance], seed: int) -> Draw:
    """Draw who tests, and the order in which clips of the others train.

    Raises BenchmarkError where speakers are not known, or cannot be parted so that both sides have
    every class.
    """
    corpus = utterances[0].corpus
    speakers = sorted({u.speaker for u in utterances if u.speaker})
    if any(u.speaker is None for u in utterances) or len(speakers) < 2:
        raise BenchmarkError(
            f"{corpus}: clips are drawn apart by speaker; name who speaks in each, two at least"
        )
    labels = check_classes(utterances)
    truth = class_indices(utterances, labels)
    rng = np.random.default_rng(seed)
    for _ in range(_ATTEMPTS):
        order = rng.permutation(len(speakers))
        tested = {speakers[place] for place in order[: max(1, round(SHARE * len(speakers)))]}
        test = [i for i, u in enumerate(utterances) if u.speaker in tested]
        others = [i for i, u in enumerate(utterances) if u.speaker not in tested]
        by_class = [[i for i in others if truth[i] == label] for label in range(len(labels))]
        if all(by_class) and len({truth[i] for i in test}) == len(labels):
            return Draw(test, [rng.permutation(own).tolist() for own in by_class])
    raise BenchmarkError(
        f"{corpus}: no quarter of its {len(speakers)} speakers has every class while the others do"
    )


def worth(
    found: Mapping[str, Found], trial: Trial, path: Path | None = None, tell: Tell = print
) -> list[Figure]:
    """Measure every way of `trial` on every corpus, number of clips and draw.

    Parameters
    ----------
    found : labelled corpora by name.
    trial : what to measure.
    path : JSON to which each figure is added as soon as it is there; what it holds already of the
        same clips, base and schedule is not measured again, and what else it holds is kept.
    tell : is given a line for each figure.

    Raises BenchmarkError for a base that trained on a corpus, or corpora that cannot be drawn from.
    """
    learners = _learners(found, trial)
    held = _held(path, learners)
    tasks: list[_Task] = []
    for name, part in found.items():
        spoken = [u for u in part.utterances if u.path is not None]
        sounds = inspect(spoken, trial.jobs)
        usable = [u for u, sound in zip(spoken, sounds, strict=True) if sound.usable]
        if not usable:
            raise BenchmarkError(f"{name}: there is no clip that can be heard")
        tasks += _tasks(usable, trial, tell)
    if not tasks:
        raise BenchmarkError("there is nothing to measure: ask for fewer --clips")
    tasks.sort(key=lambda task: task.clips)  # what is soon done comes first, of every corpus
    known = {_key(figure): figure.data for figure in held}
    if any(known.get(_key(task), task.data) != task.data for task in tasks):
        raise BenchmarkError(f"{path} holds figures of other clips; choose another --json")
    missing = [task for task in tasks if _key(task) not in known]
    if len(missing) < len(tasks):
        tell(f"{len(tasks) - len(missing)} of {len(tasks)} figures are in {path} already")
    figures = held
    with tempfile.TemporaryDirectory() as work:
        judges = _Judges(trial, Path(work))
        for number, task in enumerate(missing, 1):
            ua = task.measure(judges)
            learner = learners[task.way]
            figures.append(Figure(*_key(task), ua, task.data, learner))
            write_json(path, summary(figures))
            tell(
                f"[{number}/{len(missing)}] {task.corpus}, {task.clips} clips, draw "
                f"{task.draw + 1}: {task.way} {100 * ua:.1f} %"
            )
    return figures


def _learners(found: Mapping[str, Found], trial: Trial) -> dict[str, str]:
    """Of each way the digest of what learns. BenchmarkError for a base that trained on a corpus."""
    schedule = repr(replace(trial.schedule, seed=0))
    result = {COMPARE: _digest(str(SVM_C)), FIT: _digest(schedule, "remedied")}
    if {ADAPT, WITH_ENCODER} & set(trial.ways):
        run = load(DEFAULT_RUN if trial.base == SMALL else Path(trial.base))
        trained = {kind_of(name) for name in run.training.get("corpora", {})}
        both = sorted(name for name in found if kind_of(name) in trained)
        if not trial.seen and (both or not trained):
            what = f"trained on {', '.join(both)}" if both else "does not say what trained it"
            raise BenchmarkError(
                f"base {trial.base} {what}: name a --base that did not hear what judges it, or say "
                "--seen for figures that may flatter"
            )
        base = _digest(*(v.numpy().tobytes() for _, v in sorted(run.weights.items())))
        result |= {ADAPT: base, WITH_ENCODER: base}
    return {way: result[way] for way in trial.ways}


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:16]


def _key(one: Figure | _Task) -> tuple[str, int, int, str]:
    return one.corpus, one.clips, one.draw, one.way


@dataclass(frozen=True, eq=False)
class _Task:
    corpus: str
    clips: int
    draw: int
    way: str
    data: str
    utterances: list[Utterance]
    fold: Fold

    def measure(self, judges: _Judges) -> float:
        """UA of the test speakers, 0 to 1. A clip that the way cannot hear counts as wrong."""
        labels = check_classes(self.utterances)
        said = judges.of(self.way, self.utterances).guess(self.fold, labels, self.draw)
        truth = np.array(class_indices([self.utterances[i] for i in self.fold.test], labels))
        wrong = (truth + 1) % len(labels)
        guess = np.array([said.get(i, wrong[n]) for n, i in enumerate(self.fold.test)])
        return round(measure(truth, guess, labels).ua, 6)


def _tasks(utterances: list[Utterance], trial: Trial, tell: Tell) -> list[_Task]:
    """What is to be measured of a corpus; numbers of clips that it does not have are told."""
    corpus = utterances[0].corpus
    draws = [draw(utterances, seed) for seed in range(trial.draws)]
    result = []
    for clips in sorted(set(trial.clips)):
        folds = [fold for one in draws if (fold := one.fold(clips))]
        if len(folds) < len(draws):
            tell(f"{corpus}: no {clips} clips of each class alike in every draw; left out")
            continue
        for seed, fold in enumerate(folds):
            names = [
                f"{u.audio.name}/{u.start}/{u.end}/{u.label}"
                for u in (utterances[place] for place in (*fold.train, *fold.test))
            ]
            data = _digest(json.dumps(names))
            result += [
                _Task(corpus, clips, seed, way, data, utterances, fold) for way in trial.ways
            ]
    return result


class _Judge(Protocol):
    def guess(self, fold: Fold, labels: list[str], seed: int) -> dict[int, int]:
        """Class of each test clip that can be heard, by its place."""


class _Judges:
    """What learns, of each corpus; made when it is first asked for, as it may hear every clip."""

    def __init__(self, trial: Trial, work: Path) -> None:
        self._trial, self._work = trial, work
        self._made: dict[tuple[str, str], _Judge] = {}
        self._base: Base | None = None

    def of(self, way: str, utterances: list[Utterance]) -> _Judge:
        """The judge of a corpus."""
        key = way, utterances[0].corpus
        if key not in self._made:
            if way == FIT:
                self._made[key] = _FromNothing(utterances, self._trial)
            elif way == COMPARE:
                self._made[key] = _Compare(utterances, self._trial.jobs)
            else:
                self._base = self._base or open_base(self._trial.base, self._work)
                base = replace(self._base, tier=LARGE if way == WITH_ENCODER else SMALL)
                self._made[key] = _Adapted(utterances, base, self._trial.jobs)
        return self._made[key]


class _Adapted:
    """As `python -m training adapt`: the encoder of the bundle, int8, and a head that imitates it.

    Every clip is heard once, and what is pooled is cached.
    """

    def __init__(self, utterances: list[Utterance], base: Base, jobs: int | None) -> None:
        self._base = base
        self._heard, places = base.hear(utterances, jobs)
        self._encoded: Float32 | None = None
        if base.tier != SMALL:
            every = self._heard.utterances
            self._heard, view = encoder_view(base, self._heard, jobs)
            self._encoded = view.values
            kept = {id(u) for u in self._heard.utterances}
            places = [place for u, place in zip(every, places, strict=True) if id(u) in kept]
        self._rows = {place: row for row, place in enumerate(places)}

    def guess(self, fold: Fold, labels: list[str], seed: int) -> dict[int, int]:
        """The seed is that of the clips alone: nothing here is random."""
        train = [self._rows[i] for i in fold.train if i in self._rows]
        tested = [i for i in fold.test if i in self._rows]
        test = [self._rows[i] for i in tested]
        own = self._heard.take(train)
        truth = np.array(class_indices(own.utterances, labels))
        views = [View(own.standard)]
        if self._encoded is not None:
            values = self._encoded[train]
            views.append(View(values, float(values.std(axis=0).mean())))
        plan = plan_folds(own.utterances, truth)
        strength = choose_strength(views, truth, plan.folds)
        data = HeadData(own.utterances, views, truth, labels, plan, strength)
        run, _ = fit_run(self._base, data)
        logits = quantized_logits(run.model(Phase.INT8).head, self._heard.standard[test])
        if self._encoded is not None:
            said = opinions(run.pretrained[LARGE].arrays, self._encoded[test])
            logits = together(logits, run.calibration[AUDIO].temperature, said)
        return dict(zip(tested, logits.argmax(axis=1).tolist(), strict=True))


class _FromNothing:
    """As `python -m training fit --watch 0`, its default shape and schedule, imitating int8.

    Rounding is learned once more where it costs too much, as that command does.
    """

    def __init__(self, utterances: list[Utterance], trial: Trial) -> None:
        self._utterances, self._schedule = utterances, trial.schedule

    def guess(self, fold: Fold, labels: list[str], seed: int) -> dict[int, int]:
        """`seed` is that of the weights, too."""
        settings, features = replace(self._schedule, seed=seed), FeatureSettings()
        train = [self._utterances[i] for i in fold.train]
        config = config_of(ModelSettings(), AUDIO, labels)
        prepared = prepare(train, [], config, settings, features, WordPlan(), Branches(), workers=1)
        with tempfile.TemporaryDirectory() as folder:
            module = fit(
                prepared.data,
                prepared.config,
                settings,
                Path(folder),
                progress=lambda done, every: None,
            )
            module, _ = remedied(
                module, prepared.data, settings, Path(folder), progress=lambda done, every: None
            )
        heard = extract(
            [self._utterances[i] for i in fold.test], features, workers=1, progress=False
        )
        place = {id(self._utterances[i]): i for i in fold.test}
        logits = predict(run_of(module, features).model(Phase.INT8), heard.clean)
        tested = [place[id(u)] for u in heard.utterances]
        return dict(zip(tested, logits.argmax(axis=1).tolist(), strict=True))


class _Compare:
    """ComParE_2016 of whole clips, standardized by those that train; an RBF SVM."""

    def __init__(self, utterances: list[Utterance], jobs: int | None) -> None:
        rows = extract_set("ComParE_2016", utterances, jobs)
        self._rows = {i: row for i, row in enumerate(rows) if row is not None}
        self._truth = np.array(class_indices(utterances, check_classes(utterances)))

    def guess(self, fold: Fold, labels: list[str], seed: int) -> dict[int, int]:
        """Nothing here is random."""
        train = [i for i in fold.train if i in self._rows]
        test = [i for i in fold.test if i in self._rows]
        model = classifier(SVM_C)
        model.fit(np.stack([self._rows[i] for i in train]), self._truth[train])
        guess = model.predict(np.stack([self._rows[i] for i in test]))
        return dict(zip(test, guess.tolist(), strict=True))


@dataclass(frozen=True)
class Spread:
    """Of figures over draws."""

    mean: float
    deviation: float
    """Of one draw, n - 1; 0 of a single one."""
    draws: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value at least."""
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return cls(float(np.mean(values)), deviation, len(values))

    def text(self, sign: bool = False) -> str:
        """Points."""
        return f"{100 * self.mean:{'+' if sign else ''}.1f} ± {100 * self.deviation:.1f}"


Cells = dict[tuple[str, int], dict[str, Spread]]
"""Corpus and clips to spread by way."""


def means(figures: Sequence[Figure]) -> Cells:
    """UA of each way, over its draws."""
    return {
        place: {way: Spread.of(list(by_draw.values())) for way, by_draw in row.items()}
        for place, row in _by_place(figures).items()
    }


def gains(figures: Sequence[Figure]) -> Cells:
    """UA of `adapt` less that of each other way, draw by draw: over the draws that have both."""
    result: Cells = {}
    for place, row in _by_place(figures).items():
        ours = row.get(ADAPT, {})
        for way, theirs in row.items():
            both = [ours[number] - theirs[number] for number in theirs if number in ours]
            if both and way != ADAPT:
                result.setdefault(place, {})[way] = Spread.of(both)
    return result


def _by_place(figures: Sequence[Figure]) -> dict[tuple[str, int], dict[str, dict[int, float]]]:
    """Corpus and clips to way to draw to UA; in order."""
    result: defaultdict[tuple[str, int], dict[str, dict[int, float]]] = defaultdict(dict)
    for figure in sorted(figures, key=lambda f: (f.corpus, f.clips, WAYS.index(f.way), f.draw)):
        row = result[figure.corpus, figure.clips].setdefault(figure.way, {})
        row[figure.draw] = figure.ua
    return result


def summary(figures: Sequence[Figure]) -> dict[str, Any]:
    """The JSON of the command: each figure, and what they come to."""
    compared = gains(figures)
    return {
        "protocol": PROTOCOL,
        "results": [
            {
                "corpus": corpus,
                "clips": clips,
                "ua": {way: _rounded(spread) for way, spread in row.items()},
                "adapt_minus": {
                    way: _rounded(spread)
                    for way, spread in compared.get((corpus, clips), {}).items()
                },
            }
            for (corpus, clips), row in means(figures).items()
        ],
        "figures": [asdict(figure) for figure in figures],
    }


def _rounded(spread: Spread) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(spread).items()}


def _held(path: Path | None, learners: Mapping[str, str]) -> list[Figure]:
    """What `path` holds already. BenchmarkError where it cannot be gone on with."""
    if path is None or not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        held = [Figure(**figure) for figure in content["figures"]]
        known = all(figure.way in WAYS for figure in held)
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise BenchmarkError(f"{path} holds no figures of this command; choose another --json")
    for figure in held:
        if learners.get(figure.way, figure.learner) != figure.learner:
            what = "schedule" if figure.way == FIT else "base"
            raise BenchmarkError(
                f"{path} holds figures of {figure.way} from another {what}; choose another --json"
            )
    return held
