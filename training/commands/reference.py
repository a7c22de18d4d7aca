"""`python -m training reference`: a finished run learns to adapt to a speaker."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.console import OK, counted
from training.commands.common import add_classes, add_corpora, add_jobs
from training.commands.fit import classes_of, watched_clips

if TYPE_CHECKING:
    from training.corpora import Utterance
    from training.run import Run

SUMMARY = "reference.json"


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser(
        "reference",
        help="fit how a finished run adapts to a speaker",
        description="Fit a reference of the speaker's plain voice, from the clips that trained a "
        "run, and write it into its folder, where conversion build finds it. Of a crossval: for "
        "every fold, and its bundle is built again. Ordinary speech has no speakers to adapt to "
        "and is left out.",
    )
    command.add_argument("run", type=Path, metavar="RUN", help="a finished run, or a crossval")
    add_corpora(command)
    add_classes(command, "as RUN was trained")
    command.add_argument(
        "--crossval",
        type=Path,
        metavar="CROSSVAL",
        help="of a run: the crossval whose confidence it takes, after this command has been there; "
        "without, it is fitted on the clips that the run kept out",
    )
    add_jobs(command)
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from training.corpora import load_corpora
    from training.evaluate.crossval_files import SUMMARY as CROSSVAL_SUMMARY

    found = load_corpora(arguments.corpora, "", classes_of(arguments.run, arguments.classes))
    spoken = [u for part in found.values() for u in part.utterances if u.path is not None]
    if (arguments.run / CROSSVAL_SUMMARY).exists():
        settings = fit_folds(arguments.run, spoken, arguments.jobs)
    else:
        settings = fit_run(arguments.run, spoken, arguments.crossval, arguments.jobs)
    told = ", ".join(f"{name} {value:.2f}" for name, value in settings["temperature"].items())
    print(
        f"{arguments.run}: adapts to a speaker; temperature {told}; an enrolment is of one voice "
        f"from a log likelihood ratio of {settings['one_voice']:.2f} on"
    )
    return OK


def fit_folds(folder: Path, utterances: Sequence[Utterance], jobs: int | None) -> dict[str, Any]:
    """Fit every fold of a crossval, and their confidence together; the numbers they share.

    Each is fitted on the clips that it did not judge. Raises TrainingError.
    """
    import json

    import numpy as np

    from edge_runtime import load_bundle
    from edge_runtime.model.fusion import softmax
    from training.commands.familiarity import calibration_in
    from training.evaluate.adapted import (
        calibrate_adapted,
        crossval_parts,
        settings_of,
        with_reference,
    )
    from training.evaluate.crossval_files import SUMMARY as CROSSVAL_SUMMARY
    from training.evaluate.judge import convert
    from training.evaluate.reference import fit_arrays, hear
    from training.output import at_once
    from training.run import SpeakerReference, load

    summary = json.loads((folder / CROSSVAL_SUMMARY).read_text(encoding="utf-8"))
    labels, calibration = summary["labels"], calibration_in(folder, summary)
    judged = crossval_parts(folder, utterances)
    every = [u for _, part, _ in judged for u in part if u.label in labels]
    fitted, parts = [], []
    for fold, tested, logits in judged:
        bundle = load_bundle(fold / "bundle")
        heard, places = hear(str(fold / "bundle"), every, jobs)
        place_of = {id(every[place]): number for number, place in enumerate(places)}
        test = [n for n, u in enumerate(tested) if id(u) in place_of]
        mine = [place_of[id(tested[n])] for n in test]
        rest = sorted(set(range(len(places))) - set(mine))
        arrays = fit_arrays(heard.take(rest), labels)
        fitted.append((fold, arrays))
        cold = {
            modality: softmax(rows[test], calibration[modality].temperature)
            for modality, rows in logits.items()
        }
        if test:
            parts.append((with_reference(bundle, arrays, settings_of()), heard.take(mine), cold))
    settings = calibrate_adapted(parts, labels)
    for fold, arrays in fitted:
        run = load(fold)
        run.reference = SpeakerReference(arrays, settings)
        run.calibration = calibration
        run.save(fold)
        convert(fold, fold / "bundle")
    with at_once(folder / SUMMARY) as new:
        new.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    hours = sum(float(np.sum(heard.seconds)) for _, heard, _ in parts) / 3600
    print(f"{counted(len(fitted), 'fold')}, {counted(len(every), 'clip')}, {hours:.2f} h judged")
    return settings


def fit_run(
    folder: Path, utterances: Sequence[Utterance], crossval: Path | None, jobs: int | None
) -> dict[str, Any]:
    """Fit one run, on what it did not keep out; the numbers beside its weights. TrainingError."""
    from edge_runtime import load_bundle
    from training.errors import TrainingError
    from training.evaluate.adapted import calibrate_adapted, settings_of, with_reference
    from training.evaluate.judge import convert, int8_logits
    from training.evaluate.reference import fit_arrays, hear
    from training.run import SpeakerReference, load

    run = load(folder)
    labels = list(run.config.labels)
    if "audio" not in run.calibration and not run.config.parts.audio:
        raise TrainingError(f"{folder} hears nothing: there is no voice to adapt to")
    watched = watched_clips(folder)
    known = [u for u in utterances if u.label in labels]
    kept_out = [u for u in known if u.clip in watched]
    shared = _shared(crossval, folder) if crossval else None
    if shared is None and not kept_out:
        raise TrainingError(
            f"{folder} kept no clip of these corpora out, so nothing says how sure it may be: name "
            "the crossval it was fitted beside (--crossval)"
        )
    with tempfile.TemporaryDirectory() as work:
        plain = Path(work) / "bundle"
        _convert_plain(run, Path(work) / "run", plain)
        heard, _ = hear(str(plain), [u for u in known if u.clip not in watched], jobs)
        arrays = fit_arrays(heard, labels)
        settings = shared
        if settings is None:
            bundle = with_reference(load_bundle(plain), arrays, settings_of())
            judged, places = hear(str(plain), kept_out, jobs)
            cold = _cold(bundle, [kept_out[place] for place in places], int8_logits)
            settings = calibrate_adapted([(bundle, judged, cold)], labels)
    run.reference = SpeakerReference(arrays, settings)
    run.save(folder)
    if (folder / "bundle").exists():
        convert(folder, folder / "bundle")
    return settings


def _convert_plain(run: Run, folder: Path, out: Path) -> None:
    """A bundle of the run as it is without a reference; `folder` is for what is in between."""
    from training.evaluate.judge import convert

    replace(run, reference=None).save(folder)
    convert(folder, out)


def _cold(bundle: Any, utterances: list[Utterance], judge: Any) -> dict[str, Any]:
    from edge_runtime.manifest import AUDIO, TEXT
    from edge_runtime.model.fusion import softmax

    # What is unlike all that trained is made less sure once all is joined (`adapt`).
    bundle = replace(bundle, manifest=replace(bundle.manifest, familiarity=None))
    return {
        modality: softmax(
            judge(bundle, utterances, modality), bundle.manifest.calibration[modality].temperature
        )
        for modality in bundle.manifest.modalities
        if modality != TEXT and (modality == AUDIO or all(u.text for u in utterances))
    }


def _shared(crossval: Path, folder: Path) -> dict[str, Any]:
    """The numbers that `fit_folds` left in a crossval."""
    import json

    from training.errors import TrainingError

    path = crossval / SUMMARY
    if not path.exists():
        raise TrainingError(
            f"{crossval} does not say how sure {folder} may be: python -m training reference "
            f"{crossval} NAME=PATH... comes first"
        )
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return settings
