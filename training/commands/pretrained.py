"""`python -m training pretrained`: a finished run is joined with a pre-trained encoder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from edge_runtime.settings import add_arguments, from_arguments, setting
from training.commands.common import add_classes, add_corpora
from training.commands.fit import classes_of
from training.fit.settings import SurroundingSettings

if TYPE_CHECKING:
    from edge_runtime.manifest import Calibration
    from edge_runtime.pretrained_arrays import PretrainedArrays
    from training.corpora import Utterance
    from training.evaluate.judge import Verdicts
    from training.evaluate.pretrained import States
    from training.run import Pretrained, Run

SUMMARY, VERDICTS = "pretrained.json", "pretrained_verdicts.npz"


@dataclass(frozen=True)
class PretrainedRecipe:
    """How a run is joined with the encoder."""

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
    around: SurroundingSettings = field(default_factory=SurroundingSettings)


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "pretrained",
        help="join a finished run with a pre-trained encoder: the large tier",
        description="Fit a layer behind the first blocks of the encoder of Whisper-tiny, from the "
        "clips that trained a run, and write it into the run's folder, where conversion build "
        "--large finds it. Of a crossval: for every fold, which is converted and judged by what it "
        "did not train on. A run that adapts to a speaker (training reference, which comes first) "
        "adapts what the encoder hears as well. The encoder is in the package pipecat-ai.",
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
            f"conversion build {arguments.run} --large --out BUNDLE"
        )
    print_metrics(Tables(), metrics)
    return OK


def join_folds(
    folder: Path, utterances: Sequence[Utterance], recipe: PretrainedRecipe
) -> dict[str, Any]:
    """Join every fold of a crossval, judge it on what it did not train on; what is found of all.

    That is written into the crossval as well, and each fold gets a bundle, `LARGE`. Raises
    TrainingError.
    """
    import numpy as np

    from training.commands.fit import calibration_of
    from training.corpora import class_indices
    from training.evaluate.adapted import crossval_verdicts
    from training.evaluate.crossval_files import LARGE, write_verdicts
    from training.evaluate.crossval_files import SUMMARY as CROSSVAL_SUMMARY
    from training.evaluate.judge import DEGRADED, calibrations, convert, summarize
    from training.evaluate.pretrained import fit_layer, join_verdicts
    from training.output import at_once
    from training.run import load

    summary = json.loads((folder / CROSSVAL_SUMMARY).read_text(encoding="utf-8"))
    labels, calibration = summary["labels"], calibration_of(summary)
    temperatures = {name: chosen.temperature for name, chosen in calibration.items()}
    judged = crossval_verdicts(folder, utterances, ("int8", DEGRADED))
    heard, nothing = _hear(load(judged[0][0]), utterances, recipe)
    place_of = {id(u): place for place, u in enumerate(heard.utterances)}
    folds, parts, tested_all, numbers = [], [], [], []
    for number, (fold, tested, logits) in enumerate(judged):
        rows = [row for row, u in enumerate(tested) if id(u) in place_of]
        mine = [place_of[id(tested[row])] for row in rows]
        rest = heard.take(sorted(set(range(len(heard.utterances))) - set(mine)))
        layer = fit_layer(rest.with_more(nothing), labels)
        of_test = {key: values[rows] for key, values in logits.items()}
        parts.append(join_verdicts(of_test, temperatures, heard.take(mine), layer))
        tested_all += [heard.utterances[place] for place in mine]
        numbers += [number] * len(mine)
        folds.append(_Fold(fold, layer, rest, heard.take(mine), of_test))
    verdicts = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    truth = np.array(class_indices(tested_all, labels))
    chosen, errors = calibrations([(verdicts, truth)])
    found = summarize(verdicts, tested_all, labels, numbers)
    metrics = {
        **summary["metrics"],
        "corpora": found.metrics,
        "calibration_error": errors,
    }
    joined = [_joined(of.layer, chosen, metrics) for of in folds]
    joined, adapting = _adapting(folds, joined, calibration, labels, recipe.jobs)
    for of, part in zip(folds, joined, strict=True):
        run = load(of.folder)
        run.calibration, run.pretrained = calibration, part
        run.save(of.folder)
        convert(of.folder, of.folder / LARGE, "--large")
    result = {
        "labels": labels,
        "calibration": {name: asdict(one) for name, one in chosen.items()},
        "metrics": metrics,
        **({"reference": adapting} if adapting else {}),
    }
    write_verdicts(folder / VERDICTS, verdicts, truth)
    with at_once(folder / SUMMARY) as new:
        new.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{counted(len(folds), 'fold')}, {counted(len(tested_all), 'clip')} judged")
    return result


@dataclass(frozen=True, eq=False)
class _Fold:
    folder: Path
    layer: PretrainedArrays
    trained: States
    """The clips that trained it."""
    tested: States
    """Those that it judged."""
    logits: Verdicts
    """Of the model alone, of the latter."""


def _adapting(
    folds: Sequence[_Fold],
    joined: list[Pretrained],
    calibration: Mapping[str, Calibration],
    labels: list[str],
    jobs: int | None,
) -> tuple[list[Pretrained], dict[str, Any] | None]:
    """What is joined to every fold, with what adapts that; and the numbers they share.

    Without, and said so, where a fold's model adapts to nobody.
    """
    from edge_runtime.bundle import load_bundle
    from edge_runtime.manifest import FileSpec, PretrainedPart
    from edge_runtime.model.fusion import softmax
    from training.evaluate.adapted import Along
    from training.evaluate.pretrained import opinions
    from training.evaluate.pretrained_reference import (
        calibrate_pretrained_reference,
        fit_pretrained_reference,
        settings_of,
        with_pretrained_reference,
    )
    from training.evaluate.reference import hear
    from training.run import PRETRAINED_FILE, PretrainedReference

    bundles = [load_bundle(fold.folder / "bundle") for fold in folds]
    if not all(bundle.manifest.reference for bundle in bundles):
        print("nothing adapts to a speaker: python -m training reference was not here before")
        return joined, None
    fitted, parts = [], []
    for fold, bundle, one in zip(folds, bundles, joined, strict=True):
        arrays = fit_pretrained_reference(fold.trained, labels)
        fitted.append(arrays)
        heard, places = hear(bundle.source, fold.tested.utterances, jobs)
        cold = {}
        for key, logits in fold.logits.items():
            modality, _, form = key.partition("/")
            if form == "int8":
                cold[modality] = softmax(logits[places], calibration[modality].temperature)
        states = fold.tested.values[places, 0]
        along = Along(states, opinions(fold.layer, states))
        encoder = PretrainedPart(FileSpec(PRETRAINED_FILE, ""), **one.settings)
        adapting = with_pretrained_reference(bundle, encoder, arrays, settings_of())
        parts.append((adapting, heard, cold, along))
    settings = calibrate_pretrained_reference(parts, labels)
    references = [PretrainedReference(arrays, settings) for arrays in fitted]
    pairs = zip(joined, references, strict=True)
    return [replace(one, reference=reference) for one, reference in pairs], settings


def join_run(folder: Path, utterances: Sequence[Utterance], recipe: PretrainedRecipe) -> Pretrained:
    """Join one run, by all the clips given; confidence and figures are the crossval's.

    Raises TrainingError.
    """
    from training.errors import TrainingError
    from training.evaluate.pretrained import fit_layer
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
    calibration, metrics = _borrowed(
        [path for path in (recipe.crossval, recipe.crossval_corpora) if path]
    )
    heard, nothing = _hear(run, utterances, recipe)
    labels = list(run.config.labels)
    joined = _joined(fit_layer(heard.with_more(nothing), labels), calibration, metrics)
    settings = _summary(recipe.crossval).get("reference")
    if run.reference and settings:
        arrays = fit_pretrained_reference(heard, labels)
        joined = replace(joined, reference=PretrainedReference(arrays, settings))
    else:
        print(
            "what the encoder hears adapts to no speaker: python -m training reference of run "
            "and crossval comes before this command"
        )
    run.pretrained = joined
    run.save(folder)
    return joined


def _hear(run: Run, utterances: Sequence[Utterance], recipe: PretrainedRecipe) -> tuple[Any, Any]:
    """What the encoder makes of clips of the run's classes, and of sounds that say nothing."""
    from training.corpora.noise import nonspeech
    from training.data.surroundings import folders_of
    from training.evaluate.pretrained import hear_states
    from training.fit.fit import surrounded_variants

    variants = surrounded_variants(recipe.around)
    known = [u for u in utterances if u.label in run.config.labels]
    heard, _ = hear_states(known, run.features.segment, variants, recipe.jobs)
    sounds = nonspeech(map(Path, folders_of(recipe.around.nonspeech)))
    nothing = None
    if sounds:
        nothing, _ = hear_states(sounds, run.features.segment, variants, recipe.jobs)
    return heard, nothing


def _joined(layer: Any, calibration: dict[str, Any], metrics: dict[str, Any]) -> Pretrained:
    from training.evaluate.pretrained import part_settings
    from training.run import Pretrained

    thresholds = {name: chosen.threshold for name, chosen in calibration.items()}
    return Pretrained(layer, part_settings(calibration), thresholds, metrics)


def _borrowed(crossvals: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Calibration over the verdicts of joined crossvals, and the first one's figures."""
    from training.evaluate.crossval_files import joint_calibration

    summaries = [_summary(folder) for folder in crossvals]
    calibration, errors = joint_calibration(crossvals, VERDICTS)
    metrics = {**summaries[0]["metrics"], "calibration_error": errors}
    if len(summaries) > 1:
        metrics["unseen"] = summaries[1]["metrics"]
    return calibration, metrics


def _summary(crossval: Path) -> dict[str, Any]:
    """What this command left in a crossval. TrainingError where it was not there."""
    from training.errors import TrainingError

    if not (crossval / SUMMARY).exists():
        raise TrainingError(
            f"{crossval} is not joined with the encoder: python -m training pretrained {crossval} "
            "NAME=PATH... comes first"
        )
    found: dict[str, Any] = json.loads((crossval / SUMMARY).read_text(encoding="utf-8"))
    return found
