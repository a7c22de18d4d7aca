"""`python -m training familiarity`: a finished run knows how unlike all that trained a clip is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.commands.common import add_classes, add_corpora
from training.commands.fit import calibration_of, classes_of, watched_clips
from training.fit.settings import SurroundingSettings

if TYPE_CHECKING:
    from edge_runtime.familiarity_arrays import FamiliarityArrays
    from edge_runtime.manifest import Calibration
    from training.corpora import Utterance
    from training.data.augment import Augmentation
    from training.evaluate.familiarity import FarVerdicts
    from training.run import Run

SUMMARY = "familiarity.json"


@dataclass(frozen=True)
class FamiliarityRecipe:
    """How it is fitted."""

    crossval: Path | None = setting(
        None,
        "The crossval of the same data: how sure it may be of speakers who did not train.",
        metavar="CROSSVAL",
    )
    crossval_corpora: Path | None = setting(
        None,
        "A crossval --by corpus: how sure it may be of corpora of which nothing trained.",
        metavar="CROSSVAL",
    )
    ordinary: str | None = setting(
        None, "Class of ordinary speech, as for fit; without, it is left out.", metavar="LABEL"
    )
    jobs: int | None = setting(
        None, "Processes at a time (default: one a core).", metavar="N", minimum=1
    )
    around: SurroundingSettings = field(default_factory=SurroundingSettings)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "familiarity",
        help="let a finished run be less sure of what is unlike all that trained it",
        description="Fit how far an utterance is from the corpora that trained a run, and how much "
        "less sure a verdict is to be for it, and write that into the folders of the run and of "
        "every fold of both crossvals, whose bundles are built again. No label changes: "
        "confidence does, and where it is too low for one. training reference and training "
        "pretrained come after this command, for what they fit depends on it.",
    )
    command.add_argument("run", type=Path, metavar="RUN", help="a finished run that hears")
    add_corpora(command)
    add_classes(command, "as RUN was trained")
    add_arguments(command, FamiliarityRecipe)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from training.corpora import load_corpora

    recipe = from_arguments(FamiliarityRecipe, arguments)
    found = load_corpora(
        arguments.corpora, recipe.ordinary or "", classes_of(arguments.run, arguments.classes)
    )
    spoken = [u for part in found.values() for u in part.utterances if u.path is not None]
    told = fit_run(arguments.run, spoken, recipe)
    print(
        f"{arguments.run}: twice the usual distance multiplies the temperature by "
        f"{told['factor']:.2f}"
    )
    print("calibration error in per cent, before and now, and by corpora left out of the fit:")
    for name, forms in told["calibration_error"].items():
        for form, errors in forms.items():
            listed = ", ".join(f"{100 * error:.1f}" for error in errors)
            print(f"  {name} that did not train, {form}: {listed}")
    return OK


@dataclass(frozen=True, eq=False)
class _Fold:
    folder: Path
    arrays: FamiliarityArrays


def fit_run(
    folder: Path, utterances: Sequence[Utterance], recipe: FamiliarityRecipe
) -> dict[str, Any]:
    """Fit one run and the folds of both crossvals; what is to be told of it. TrainingError."""
    from training.errors import TrainingError
    from training.evaluate.familiarity import (
        errors_of,
        fit,
        forms_of,
        settings_of,
        tempered_verdicts,
    )
    from training.evaluate.judge import calibrations, convert
    from training.fit.fit import surrounded_variants
    from training.output import at_once
    from training.run import KnownCorpora, load

    run = load(folder)
    if not run.config.parts.audio:
        raise TrainingError(f"{folder} hears nothing: there is no sound to be familiar with")
    if recipe.crossval is None or recipe.crossval_corpora is None:
        raise TrainingError(
            "how sure it may be of the unlike is learned from corpora of which nothing trained: "
            "name a crossval by speakers (--crossval) and one --by corpus (--crossval-corpora)"
        )
    crossvals = [recipe.crossval, recipe.crossval_corpora]
    forms = forms_of(surrounded_variants(recipe.around))
    every, folds = [], []
    for crossval in crossvals:
        one, fitted = _judge_folds(crossval, utterances, forms, recipe.jobs)
        every.append(one)
        folds.append(fitted)
    by = fit(every)
    without, _ = calibrations([(one.verdicts, one.truth) for one in every])
    settings = settings_of(by.usual, by.slope, without)
    arrays = _fit_clean(run, folder, utterances, forms, recipe.jobs)
    chosen, errors = calibrations(
        [(tempered_verdicts(one.verdicts, one.factors(by)), one.truth) for one in every]
    )
    judged = dict(zip(("speakers", "corpora"), every, strict=True))
    told = {"factor": round(4**by.slope, 4), "calibration_error": errors_of(judged, by)}
    summary = {
        "settings": settings,
        "calibration": {name: asdict(one) for name, one in chosen.items()},
        **told,
    }
    for crossval, fitted in zip(crossvals, folds, strict=True):
        for fold in fitted:
            of_fold = load(fold.folder)
            of_fold.familiarity = KnownCorpora(fold.arrays, settings)
            of_fold.calibration = {**of_fold.calibration, **chosen}
            of_fold.save(fold.folder)
            convert(fold.folder, fold.folder / "bundle")
        with at_once(crossval / SUMMARY) as new:
            new.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if run.reference or run.pretrained:
        print(
            f"{folder} adapts to speakers, or hears with an encoder: what was fitted of that is to "
            "be fitted again (python -m training reference, python -m training pretrained)"
        )
    run.familiarity = KnownCorpora(arrays, settings)
    run.calibration = {**run.calibration, **chosen}
    known = run.metrics.get("calibration_error", {})
    run.metrics = {**run.metrics, "calibration_error": {**known, **errors}, "familiarity": told}
    run.save(folder)
    if (folder / "bundle").exists():
        convert(folder, folder / "bundle")
    return told


def _judge_folds(
    crossval: Path,
    utterances: Sequence[Utterance],
    forms: dict[str, Augmentation],
    jobs: int | None,
) -> tuple[FarVerdicts, list[_Fold]]:
    """What each fold of a crossval is familiar with, and how far away is what it was judged by."""
    import numpy as np

    from edge_runtime import load_bundle
    from edge_runtime.manifest import AUDIO
    from training.corpora import class_indices
    from training.evaluate.adapted import crossval_verdicts
    from training.evaluate.familiarity import (
        FarVerdicts,
        distances,
        fit_arrays,
        hear_forms,
        with_familiarity,
    )

    found = crossval_verdicts(crossval, utterances, tuple(forms))
    # It may have been trained without rooms and noises, and then judged nothing among them.
    forms = {form: one for form, one in forms.items() if f"{AUDIO}/{form}" in found[0][2]}
    labels = list(load_bundle(found[0][0] / "bundle").manifest.labels)
    every = [u for _, tested, _ in found for u in tested if u.label in labels]
    folds, verdicts, truth, corpora = [], [], [], []
    away: dict[str, list[Any]] = {form: [] for form in forms}
    for fold, tested, logits in found:
        bundle = load_bundle(fold / "bundle")
        heard = hear_forms(bundle.source, every, forms, jobs)
        mine = {id(u): row for row, u in enumerate(tested)}
        trained = [
            part.take([n for n, u in enumerate(part.utterances) if id(u) not in mine])
            for part, _ in heard.values()
        ]
        arrays = fit_arrays(trained)
        folds.append(_Fold(fold, arrays))
        known = with_familiarity(bundle, arrays)
        for form, (part, _) in heard.items():
            of_test = [n for n, u in enumerate(part.utterances) if id(u) in mine]
            values = np.full(len(tested), np.nan)
            rows = [mine[id(part.utterances[n])] for n in of_test]
            values[rows] = distances(known, part.standard[of_test])
            away[form].append(values)
        verdicts.append(logits)
        truth.append(class_indices(tested, labels))
        corpora += [u.corpus for u in tested]
    judged = FarVerdicts(
        {key: np.concatenate([part[key] for part in verdicts]) for key in verdicts[0]},
        np.concatenate(truth),
        np.array(corpora),
        {form: np.concatenate(values) for form, values in away.items()},
    )
    return judged, folds


def _fit_clean(
    run: Run,
    folder: Path,
    utterances: Sequence[Utterance],
    forms: dict[str, Augmentation],
    jobs: int | None,
) -> FamiliarityArrays:
    """What the run is familiar with: all that it did not keep out."""
    import tempfile

    from training.evaluate.familiarity import fit_arrays, hear_forms
    from training.evaluate.judge import convert

    watched = watched_clips(folder)
    known = [u for u in utterances if u.label in run.config.labels and u.clip not in watched]
    with tempfile.TemporaryDirectory() as work:
        bundle = convert(folder, Path(work) / "bundle")
        heard = hear_forms(str(bundle), known, forms, jobs)
        return fit_arrays([part for part, _ in heard.values()])


def calibration_in(crossval: Path, summary: dict[str, Any]) -> dict[str, Calibration]:
    """How sure the folds of a crossval may be: by this command, if it was there.

    `summary` is of the crossval itself.
    """
    own = calibration_of(summary)
    if not (crossval / SUMMARY).exists():
        return own
    fitted = json.loads((crossval / SUMMARY).read_text(encoding="utf-8"))
    return {**own, **calibration_of(fitted)}
