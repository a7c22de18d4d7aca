"""`python -m training pretrained`: a finished run is joined with a pre-trained encoder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.commands.common import add_classes, add_corpora
from training.commands.fit import classes_of
from training.fit.settings import EncoderSettings, SurroundingSettings
from training.tiers import EXTENTS, LARGE

if TYPE_CHECKING:
    from edge_runtime.manifest import Calibration
    from training.corpora import Utterance
    from training.evaluate.encoders import Clips, HearsAlong
    from training.evaluate.judge import Verdicts
    from training.run import Pretrained, PretrainedReference, Run

SUMMARY, VERDICTS = "pretrained-{tier}.json", "pretrained_verdicts-{tier}.npz"  # in a crossval


@dataclass(frozen=True)
class PretrainedRecipe:
    """How a run is joined with the encoder."""

    tier: str = setting(
        LARGE,
        "How much of the encoder: medium is two blocks of it, 3.9 MB, large three, 6.4 MB.",
        choices=tuple(EXTENTS),
    )
    ordinary: str | None = setting(
        None, "Class of ordinary speech, as for fit; without, it is left out.", metavar="LABEL"
    )
    crossval: Path | None = setting(
        None,
        "Of a run: the crossval whose confidence and figures it takes, after this command has been "
        "there.",
        metavar="CROSSVAL",
    )
    crossval_corpora: Path | None = setting(
        None,
        "With --crossval: a crossval --by corpus, likewise; confidence is fitted on its verdicts "
        "too.",
        metavar="CROSSVAL",
    )
    jobs: int | None = setting(
        None, "Processes at a time (default: one a core).", metavar="N", minimum=1
    )
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    around: SurroundingSettings = field(default_factory=SurroundingSettings)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "pretrained",
        help="join a finished run with a pre-trained encoder: the tiers medium and large",
        description="Fit a layer behind the first blocks of the encoder of Whisper-tiny, from the "
        "clips that trained a run, and write it into the run's folder, where conversion build "
        "--tier finds it. Of a crossval: for every fold, which is converted and judged by what it "
        "did not train on. A run that adapts to a speaker (training reference, which comes first) "
        "adapts what the encoder hears as well. With --encoder-epochs the encoder itself is "
        "trained further with its layer, for every fold its own: with 6 five to ten minutes of a "
        "core each for 3,400 clips, and what is finished is kept. The encoder is in the package "
        "pipecat-ai.",
    )
    command.add_argument("run", type=Path, metavar="RUN", help="a finished run, or a crossval")
    add_corpora(command)
    add_classes(command, "as RUN was trained")
    add_arguments(command, PretrainedRecipe)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edge_runtime.terminal import Tables
    from training.corpora import load_corpora
    from training.evaluate.crossval_files import SUMMARY as CROSSVAL_SUMMARY
    from training.evaluate.report import print_metrics

    recipe = from_arguments(PretrainedRecipe, arguments)
    found = load_corpora(
        arguments.corpora, recipe.ordinary or "", classes_of(arguments.run, arguments.classes)
    )
    spoken = [u for part in found.values() for u in part.utterances if u.path is not None]
    if (arguments.run / CROSSVAL_SUMMARY).exists():
        metrics = join_folds(arguments.run, spoken, recipe)["metrics"]
    else:
        joined = join_run(arguments.run, spoken, recipe)
        metrics = joined.metrics
        told = ", ".join(f"{n} {t:.2f}" for n, t in joined.settings["temperature"].items())
        print(
            f"{arguments.run} is joined with the encoder; temperature {told}; next: python -m "
            f"conversion build {arguments.run} --tier {recipe.tier} --out BUNDLE"
        )
    print_metrics(Tables(), metrics)
    return OK


def join_folds(
    folder: Path, utterances: Sequence[Utterance], recipe: PretrainedRecipe
) -> dict[str, Any]:
    """Join every fold of a crossval, judge it on what it did not train on; what is found of all.

    That is written into the crossval as well, and each fold gets a bundle, called as the tier.
    Raises TrainingError.
    """
    import numpy as np

    from edge_runtime.bundle import load_bundle
    from training.commands.familiarity import calibration_in
    from training.corpora import class_indices
    from training.evaluate.adapted import crossval_verdicts
    from training.evaluate.crossval_files import BUNDLE, write_verdicts
    from training.evaluate.crossval_files import SUMMARY as CROSSVAL_SUMMARY
    from training.evaluate.encoders import hear_along
    from training.evaluate.familiarity import factors_in, tempered_verdicts
    from training.evaluate.judge import DEGRADED, calibrations, convert, summarize
    from training.evaluate.pretrained import distances, join_verdicts
    from training.output import at_once
    from training.run import load

    summary = json.loads((folder / CROSSVAL_SUMMARY).read_text(encoding="utf-8"))
    labels, calibration = summary["labels"], calibration_in(folder, summary)
    temperatures = {name: chosen.temperature for name, chosen in calibration.items()}
    judged = crossval_verdicts(folder, utterances, ("int8", DEGRADED))
    clips = _clips(load(judged[0][0]), utterances, recipe)
    tested = {f"{folder.name}, {fold.name}": mine for fold, mine, _ in judged}
    folds, parts, away, tested_all, numbers = [], [], [], [], []
    heard = hear_along(clips, tested, recipe.tier, recipe.encoder)
    for number, ((fold, mine, logits), ear) in enumerate(zip(judged, heard, strict=True)):
        if ear.tested is None:
            continue
        row_of = {id(u): row for row, u in enumerate(mine)}
        rows = [row_of[id(u)] for u in ear.tested.utterances]
        of_test = {key: values[rows] for key, values in logits.items()}
        strength = ear.ear.strength
        joined = join_verdicts(of_test, temperatures, ear.tested, ear.layer, strength)
        bundle, heard_by = load_bundle(fold / BUNDLE), ear.tested.utterances
        factors = factors_in(bundle, heard_by, clips.variants, recipe.jobs)
        parts.append(tempered_verdicts(joined, factors))
        away.append(distances(ear.layer, ear.tested))
        tested_all += heard_by
        numbers += [number] * len(rows)
        folds.append(_Fold(fold, ear, of_test))
    verdicts = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    truth = np.array(class_indices(tested_all, labels))
    chosen, errors = calibrations([(verdicts, truth)])
    found = summarize(verdicts, tested_all, labels, numbers)
    metrics = {
        **summary["metrics"],
        "corpora": found.metrics,
        "calibration_error": errors,
    }
    if recipe.encoder.encoder_epochs:
        metrics["encoder"] = asdict(recipe.encoder)
    references, adapting = _adapting(folds, chosen, calibration, labels, recipe.jobs)
    for of, reference in zip(folds, references, strict=True):
        run = load(of.folder)
        run.calibration = calibration
        run.pretrained[recipe.tier] = of.along.joined(chosen, metrics, reference)
        run.save(of.folder)
        convert(of.folder, of.folder / recipe.tier, "--tier", recipe.tier)
    result = {
        "labels": labels,
        "calibration": {name: asdict(one) for name, one in chosen.items()},
        "metrics": metrics,
        **({"reference": adapting} if adapting else {}),
    }
    # A fold that was trained on one corpus alone cannot tell how far away others are.
    forms = set.intersection(*map(set, away))
    far = {form: np.concatenate([part[form] for part in away]) for form in forms}
    write_verdicts(folder / VERDICTS.format(tier=recipe.tier), verdicts, truth, far)
    with at_once(folder / SUMMARY.format(tier=recipe.tier)) as new:
        new.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{counted(len(folds), 'fold')}, {counted(len(tested_all), 'clip')} judged")
    return result


@dataclass(frozen=True, eq=False)
class _Fold:
    folder: Path
    along: HearsAlong
    logits: Verdicts
    """Of the model alone, of the clips that judge it."""


def _adapting(
    folds: Sequence[_Fold],
    chosen: Mapping[str, Calibration],
    calibration: Mapping[str, Calibration],
    labels: list[str],
    jobs: int | None,
) -> tuple[Sequence[PretrainedReference | None], dict[str, Any] | None]:
    """What adapts what each fold's encoder hears, and the numbers they share.

    Without, and said so, where a fold's model adapts to nobody. Confidence is `chosen` of both
    together, and `calibration` of the model alone.
    """
    from edge_runtime.bundle import load_bundle
    from edge_runtime.manifest import FileSpec, PretrainedPart
    from edge_runtime.model.fusion import softmax
    from training.evaluate.adapted import Along
    from training.evaluate.crossval_files import BUNDLE
    from training.evaluate.pretrained import opinions
    from training.evaluate.pretrained_reference import (
        calibrate_pretrained_reference,
        fit_pretrained_reference,
        settings_of,
        with_pretrained_reference,
    )
    from training.evaluate.reference import hear
    from training.run import PretrainedReference

    bundles = [load_bundle(fold.folder / BUNDLE) for fold in folds]
    if not all(bundle.manifest.reference for bundle in bundles):
        print("nothing adapts to a speaker: python -m training reference was not here before")
        return [None] * len(folds), None
    fitted, parts = [], []
    for fold, bundle in zip(folds, bundles, strict=True):
        ear, tested = fold.along.ear, fold.along.tested
        assert tested is not None
        further = ear.trained_further
        arrays = fit_pretrained_reference(fold.along.trained, labels, further)
        fitted.append(arrays)
        heard, places = hear(bundle.source, tested.utterances, jobs)
        cold = {}
        for key, logits in fold.logits.items():
            modality, _, form = key.partition("/")
            if form == "int8":
                cold[modality] = softmax(logits[places], calibration[modality].temperature)
        states = tested.values[places, 0]
        along = Along(states, opinions(fold.along.layer, states))
        settings = fold.along.joined(chosen, {}).settings
        encoder = PretrainedPart(FileSpec("", ""), **settings)
        adapting = with_pretrained_reference(
            bundle, encoder, ear.graph, arrays, settings_of(further)
        )
        parts.append((adapting, heard, cold, along))
    shared = calibrate_pretrained_reference(parts, labels)
    return [PretrainedReference(arrays, shared) for arrays in fitted], shared


def join_run(folder: Path, utterances: Sequence[Utterance], recipe: PretrainedRecipe) -> Pretrained:
    """Join one run, by all the clips given; confidence and figures are the crossval's.

    Raises TrainingError.
    """
    from training.errors import TrainingError
    from training.evaluate.encoders import hear_along
    from training.evaluate.pretrained_reference import fit_pretrained_reference
    from training.run import PretrainedReference, load

    run = load(folder)
    if not run.config.parts.audio:
        raise TrainingError(f"{folder} hears nothing: there is nothing to hear along with")
    if recipe.crossval is None:
        raise TrainingError(
            "name the crossval that says how sure it may be, which this command has joined: "
            "--crossval"
        )
    crossvals = [path for path in (recipe.crossval, recipe.crossval_corpora) if path]
    summaries = [_summary(path, recipe.tier) for path in crossvals]
    _check_alike(recipe, crossvals, summaries)
    calibration, metrics, distance = _borrowed(crossvals, summaries, recipe.tier)
    clips = _clips(run, utterances, recipe)
    (along,) = hear_along(clips, {folder.name: []}, recipe.tier, recipe.encoder)
    settings, reference = summaries[0].get("reference"), None
    if run.reference and settings:
        further = along.ear.trained_further
        arrays = fit_pretrained_reference(along.trained, clips.labels, further)
        reference = PretrainedReference(arrays, settings)
    else:
        print(
            "what the encoder hears adapts to no speaker: python -m training reference of run "
            "and crossval comes before this command"
        )
    joined = along.joined(calibration, metrics, reference)
    joined.settings.update(distance)
    run.pretrained[recipe.tier] = joined
    run.save(folder)
    return joined


def _clips(run: Run, utterances: Sequence[Utterance], recipe: PretrainedRecipe) -> Clips:
    """What encoders hear: clips of the run's classes, and sounds that say nothing."""
    from training.corpora.noise import nonspeech
    from training.data.surroundings import folders_of
    from training.evaluate.encoders import Clips
    from training.fit.fit import surrounded_variants

    return Clips(
        [u for u in utterances if u.label in run.config.labels],
        nonspeech(map(Path, folders_of(recipe.around.nonspeech))),
        list(run.config.labels),
        run.features.segment,
        surrounded_variants(recipe.around),
        recipe.jobs,
    )


def _check_alike(
    recipe: PretrainedRecipe, crossvals: Sequence[Path], summaries: Sequence[dict[str, Any]]
) -> None:
    """Refuse figures of encoders that were made otherwise. TrainingError."""
    from training.errors import TrainingError

    own = asdict(recipe.encoder)
    for crossval, summary in zip(crossvals, summaries, strict=True):
        theirs = summary["metrics"].get("encoder", {"encoder_epochs": 0})
        for name, value in own.items():
            if theirs.get(name, value) != value:
                option = name.replace("_", "-")
                raise TrainingError(
                    f"the encoders of {crossval} were made with --{option} {theirs[name]}, not "
                    f"{value}: their figures are of others"
                )


def _borrowed(
    crossvals: Sequence[Path], summaries: Sequence[dict[str, Any]], tier: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """Calibration over the verdicts of joined crossvals, the first one's figures, and distances.

    The last are of the pre-trained part, how certainty falls with what its encoder hears: fitted
    where one of the crossvals is of corpora that did not train, beyond how it falls with what the
    model hears.
    """
    from training.evaluate.crossval_files import read_verdicts
    from training.evaluate.familiarity import fit, tempered_verdicts
    from training.evaluate.judge import calibrations

    judged = [read_verdicts(path, VERDICTS.format(tier=tier)) for path in crossvals]
    verdicts, distance = [one.verdicts for one in judged], {}
    if len(judged) > 1 and all(one.away for one in judged):
        by = fit(judged)
        verdicts = [tempered_verdicts(one.verdicts, one.factors(by)) for one in judged]
        distance = {"usual_distance": by.usual, "distance_slope": by.slope}
    truth = [one.truth for one in judged]
    calibration, errors = calibrations(list(zip(verdicts, truth, strict=True)))
    metrics = {**summaries[0]["metrics"], "calibration_error": errors}
    if len(summaries) > 1:
        metrics["unseen"] = summaries[1]["metrics"]
    return calibration, metrics, distance


def _summary(crossval: Path, tier: str) -> dict[str, Any]:
    """What this command left in a crossval. TrainingError where it was not there."""
    from training.errors import TrainingError

    file = crossval / SUMMARY.format(tier=tier)
    if not file.exists():
        raise TrainingError(
            f"{crossval} is not joined with the encoder: python -m training pretrained {crossval} "
            f"--tier {tier} NAME=PATH... comes first"
        )
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found
