"""What differs between two runs, and whether their verdicts on the same clips do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.console import counted
from edge_runtime.manifest import AUDIO, TEXT
from edge_runtime.tokenizer import Tokenizer
from training.corpora import Utterance
from training.data.features import extract
from training.data.fingerprint import read_trained
from training.data.tokens import encode
from training.errors import TrainingError
from training.evaluate.crossval_files import SUMMARY
from training.evaluate.judge import modalities
from training.evaluate.paired import Paired, paired_test
from training.evaluate.predict import predict
from training.evaluate.verdicts import FORMS, read, rows_of
from training.network.fakequant import Phase
from training.run import RUN_FILE, Run, load
from training.tracking import flat

_FEW = 64  # clips, which are read before other processes have begun
_ORDER = ("revision", "edge_emotion", "python", "versions", "data", "seeds", "settings", "model")


@dataclass(frozen=True)
class Verdict:
    """What one model said of one clip."""

    label: str
    speaker: str
    """Empty where it is not known."""
    guess: str


Place = tuple[str, int]
"""A clip: its key, and which of those that hold the same it is."""


@dataclass(frozen=True)
class Judged:
    """A model's verdicts on clips."""

    verdicts: dict[Place, Verdict]
    labels: tuple[str, ...]
    modality: str
    form: str


@dataclass(frozen=True)
class Comparison:
    """What there is to say of two runs."""

    differences: list[tuple[str, Any, Any]]
    """Name, and what it is in either; None where one does not have it."""
    result: Paired
    clips: int
    """That both judged and neither trained on, as far as is known."""
    forms: tuple[str, str]
    """What was judged of either: modality and form."""
    notes: list[str]
    """What makes the result doubtful, or was left out, a sentence each."""


def compare(folders: Sequence[Path], utterances: Sequence[Utterance] = ()) -> Comparison:
    """Compare two runs, by the verdicts that they keep or, with `utterances`, by new ones.

    Raises TrainingError for what is no run, other classes, and no clip in common.
    """
    records = [record_of(folder) for folder in folders]
    labels = [tuple(record["model"]["labels"]) for record in records]
    if set(labels[0]) != set(labels[1]):
        told = " and ".join(f"{f} {', '.join(own)}" for f, own in zip(folders, labels, strict=True))
        raise TrainingError(f"the runs have different classes: {told}")
    notes: list[str] = []
    if utterances:
        judged, common = _judge_both(folders, utterances, notes)
    else:
        judged = _kept_by(folders)
        common = [place for place in judged[0].verdicts if place in judged[1].verdicts]
        if not common:
            raise TrainingError(
                "the runs judged no clip in common; name corpora to judge both on: ravdess=DIR"
            )
        alone = [len(part.verdicts) - len(common) for part in judged]
        for folder, count in zip(folders, alone, strict=True):
            if count:
                notes.append(f"{folder} alone judged {counted(count, 'clip')} more")
    first, second = (part.verdicts for part in judged)
    agreed = [place for place in common if first[place].label == second[place].label]
    if len(agreed) < len(common):
        notes.append(
            f"{counted(len(common) - len(agreed), 'clip')} left out that the runs have under "
            "different labels"
        )
    if not agreed:
        raise TrainingError("no clip has the same label in both runs")
    names = list(labels[0])
    truth = np.array([names.index(first[place].label) for place in agreed])
    said, says = (
        np.array([names.index(part[place].guess) for place in agreed]) for part in (first, second)
    )
    speakers = [first[place].speaker or second[place].speaker or None for place in agreed]
    return Comparison(
        differences(*records),
        paired_test(truth, said, says, speakers),
        len(agreed),
        (_told(judged[0]), _told(judged[1])),
        notes,
    )


def record_of(folder: Path) -> dict[str, Any]:
    """How a run or crossval was made. Raises TrainingError for a folder that holds neither."""
    for name, shape in ((RUN_FILE, "config"), (SUMMARY, "model")):
        path = folder / name
        if not path.exists():
            continue
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            found = raw["training"] if name == RUN_FILE else raw
            made = {key: found[key] for key in _ORDER if key in found and key != "model"}
            for key in ("start", "branches", "adapted_from", "distillation"):
                if key in found:
                    made[key] = found[key]
            raw[shape]["labels"] = list(raw[shape]["labels"])
            return made | {"model": raw[shape]}
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} cannot be read: {error!r}") from None
    raise TrainingError(
        f"{folder} is no finished run or crossval: there is no {RUN_FILE} or {SUMMARY}"
    )


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What is not the same in two records, by names such as settings.lr."""
    one, other = flat(first), flat(second)
    names = sorted(one.keys() | other.keys(), key=_place)
    return [(n, one.get(n), other.get(n)) for n in names if one.get(n) != other.get(n)]


def _place(name: str) -> tuple[int, str]:
    part = name.partition(".")[0]
    return (_ORDER.index(part) if part in _ORDER else len(_ORDER)), name


def _told(judged: Judged) -> str:
    return f"{judged.modality}, {judged.form}"


def _kept_by(folders: Sequence[Path]) -> list[Judged]:
    """The verdicts of both runs' folders on all that both judge by."""
    tables = [read(folder) for folder in folders]
    modality = _common([{row["modality"] for row in table} for table in tables], folders)
    found = []
    for table, folder in zip(tables, folders, strict=True):
        mine = [row for row in table if row["modality"] == modality]
        form = min({row["form"] for row in mine}, key=FORMS.index)
        labels = record_of(folder)["model"]["labels"]
        found.append(_judged([r for r in mine if r["form"] == form], labels, modality, form))
    return found


def _judged(
    rows: Sequence[Mapping[str, Any]], labels: Sequence[str], modality: str, form: str
) -> Judged:
    seen: Counter[str] = Counter()
    verdicts = {}
    for row in rows:
        place = row["clip"], seen[row["clip"]]
        seen[row["clip"]] += 1
        verdicts[place] = Verdict(row["label"], row["speaker"], row["guess"])
    return Judged(verdicts, tuple(labels), modality, form)


def _common(sets: Sequence[set[str]], folders: Sequence[Path]) -> str:
    """All that both judge by: of audio+text, text and audio the longest."""
    both = sets[0] & sets[1]
    if not both:
        one, other = (" or ".join(sorted(found)) for found in sets)
        raise TrainingError(
            f"{folders[0]} judges by {one}, {folders[1]} by {other}: there is nothing to compare"
        )
    return max(both, key=lambda name: (len(name), name))


def _judge_both(
    folders: Sequence[Path], utterances: Sequence[Utterance], notes: list[str]
) -> tuple[list[Judged], list[Place]]:
    """Both runs' verdicts on clips, and the places of those that trained neither."""
    for folder in folders:
        if not (folder / RUN_FILE).exists():
            raise TrainingError(
                f"{folder} is a crossval, which has a model a fold: it judges no other clips; "
                "leave out the corpora"
            )
    runs = [load(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        if run.config.parts.speaker:
            raise TrainingError(f"{folder} needs speaker embeddings: leave out the corpora")
        if run.pretrained:
            notes.append(f"{folder} is judged without its pre-trained encoder")
    usable = [u for u in utterances if u.label in runs[0].config.labels]
    if len(usable) < len(utterances):
        notes.append(f"{counted(len(utterances) - len(usable), 'clip')} of other classes left out")
    modality = _common([set(modalities(run.config.parts)) for run in runs], folders)
    if modality != TEXT:
        usable = [u for u in usable if u.path is not None]
    if not usable:
        raise TrainingError(
            f"no clip of these corpora has a class of the runs: {', '.join(runs[0].config.labels)}"
        )
    judged = [_judge(run, usable, modality) for run in runs]
    common = [place for place in judged[0].verdicts if place in judged[1].verdicts]
    return judged, _unheard(folders, judged[0], common, notes)


def _judge(run: Run, utterances: Sequence[Utterance], modality: str) -> Judged:
    """The verdicts of the weights that are rounded to int8 in PyTorch."""
    heard = None
    if modality != TEXT:
        workers = 1 if len(utterances) < _FEW else None
        known = extract(utterances, run.features, workers=workers)
        utterances, heard = known.utterances, known.clean
    words = None
    if modality != AUDIO:
        reader = Tokenizer(run.vocabulary, run.config.tokens, run.config.punctuation)
        words = encode(utterances, reader)
    form = "fake-quant"
    logits = predict(run.model(Phase.INT8), heard, words)
    rows = rows_of(utterances, {f"{modality}/{form}": logits}, run.config.labels, run.calibration)
    return _judged(rows, run.config.labels, modality, form)


def _unheard(
    folders: Sequence[Path], judged: Judged, places: Sequence[Place], notes: list[str]
) -> list[Place]:
    """The clips that trained neither run, as far as that is known; and how far it is."""
    kept = list(places)
    for folder in folders:
        trained = read_trained(folder)
        complete = record_of(folder).get("data", {}).get("complete", False)
        if trained is None or not complete:
            notes.append(
                f"not all that trained {folder} is known: if it learned from these clips, its "
                "figure is too good"
            )
        if trained is None:
            continue
        known = len(kept)
        kept = [place for place in kept if place[0] not in trained]
        if len(kept) < known:
            notes.append(f"{counted(known - len(kept), 'clip')} left out that trained {folder}")
        voices = set(trained.values()) - {""}
        own = sum(judged.verdicts[place].speaker in voices for place in kept)
        if own:
            notes.append(
                f"{counted(own, 'clip')} are by speakers whose other clips trained {folder}"
            )
    if not kept:
        raise TrainingError("each of these clips trained one of the runs; name other corpora")
    return kept


def as_json(found: Comparison) -> dict[str, Any]:
    """What `--json` writes."""
    return {
        "differences": {name: [one, other] for name, one, other in found.differences},
        "clips": found.clips,
        "judged": list(found.forms),
        "result": asdict(found.result)
        | {"difference": found.result.difference, "beyond_chance": found.result.sure},
        "notes": found.notes,
    }
