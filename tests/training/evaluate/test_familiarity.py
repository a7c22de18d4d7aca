"""How sure a model may be of what it is not familiar with: on made-up corpora, and real clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from voices import adapting_run, write_crossval

from edge_runtime import load_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import Calibration
from edge_runtime.pcm import Float32
from training.commands.familiarity import FamiliarityRecipe, fit_run
from training.commands.reference import fit_folds
from training.corpora import Utterance
from training.errors import TrainingError
from training.evaluate.familiarity import (
    FarVerdicts,
    distances,
    errors_of,
    fit,
    fit_arrays,
    tempered_verdicts,
    with_familiarity,
)
from training.evaluate.reference import Heard
from training.fit.settings import SurroundingSettings
from training.run import load

LABELS = ["angry", "happy", "neutral", "sad"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return load_bundle(adapting_run(tmp_path_factory.mktemp("known"))[1])


def corpus(width: int, number: int, clips: int = 60, seed: int = 0) -> Heard:
    """Clips that scatter around a middle of their own, where other corpora have theirs."""
    middle = np.random.default_rng(1000 + number).normal(0, 0.6, width)
    rng = np.random.default_rng([seed, number])
    rows = (middle + rng.normal(0, 1, (clips, width))).astype(np.float32)
    utterances = [Utterance(Path(f"{n}.wav"), "sad", f"s{n}", f"c{number}") for n in range(clips)]
    return Heard(utterances, rows, np.full(clips, 2.0))


def test_what_is_like_no_corpus_is_further_away(bundle: Bundle) -> None:
    width = bundle.manifest.branches["audio"]
    arrays = fit_arrays([corpus(width, number) for number in range(4)])
    assert arrays.projection.shape == (width, 3)
    known = with_familiarity(bundle, arrays)
    own = [distances(known, corpus(width, n, seed=1).standard).mean() for n in range(4)]
    other = [distances(known, corpus(width, n, seed=1).standard).mean() for n in range(4, 8)]
    assert max(own) < min(other) - 1
    with pytest.raises(TrainingError, match=r"two and more corpora that trained.*only c1"):
        fit_arrays([corpus(width, 1)])


def verdicts(away: np.ndarray, sharp: np.ndarray, name: str, seed: int) -> FarVerdicts:
    """Verdicts that say they are right as often as at `sharp` 1, and are as often as told."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (len(away), 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(4, p=row) for row in shares])
    corpora = np.array([f"{name}{n % 3}" for n in range(len(away))])
    told = {"audio/int8": (logits * sharp[:, None]).astype(np.float32)}
    return FarVerdicts(told, truth, corpora, {"int8": away})


def test_certainty_falls_with_the_distance_as_it_does_in_truth() -> None:
    rng = np.random.default_rng(3)
    near, far = rng.normal(1, 0.3, 2000), rng.normal(3, 0.3, 2000)
    # Far away scores are sharper than they may be, by 1.5 for each step of the distance.
    judged = [verdicts(a, 1.5 ** (a - 1), n, s) for a, n, s in ((near, "k", 1), (far, "u", 2))]
    found = fit(judged)
    assert np.exp(found.slope) == pytest.approx(1.5, abs=0.1)
    assert found.usual == pytest.approx(near.mean(), abs=1e-3)
    assert found.temperature == pytest.approx(1, abs=0.1)
    errors = errors_of({"speakers": judged[0], "corpora": judged[1]}, found)
    for one in ("speakers", "corpora"):
        plain, by_distance, left_out = errors[one]["int8"]
        assert by_distance < plain / 2
        assert left_out == pytest.approx(by_distance, abs=0.02)
    # Where it tells nothing, it counts for nothing.
    even = [verdicts(a, np.ones(2000), n, s) for a, n, s in ((near, "k", 1), (far, "u", 2))]
    assert fit(even).slope < 0.03


def test_what_could_not_be_heard_is_as_usual_and_no_label_changes() -> None:
    away = np.array([2.0, np.nan, 0.5])
    judged = verdicts(away, np.ones(3), "k", 5)
    by = replace(fit([judged]), usual=1.0, slope=0.5, temperature=1.0)
    factors = judged.factors(by)
    assert factors["int8"] == pytest.approx([np.exp(0.5), 1.0, np.exp(-0.25)])
    found = tempered_verdicts({**judged.verdicts, "text/int8, no marks": np.ones(3)}, factors)
    before: Float32 = judged.verdicts["audio/int8"]
    assert (found["audio/int8"].argmax(axis=1) == before.argmax(axis=1)).all()
    assert found["audio/int8"][0] == pytest.approx(before[0] / np.exp(0.5), rel=1e-5)
    assert (found["text/int8, no marks"] == 1).all()


def test_a_run_and_the_folds_of_both_crossvals_get_it(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    spoken = [
        Utterance(clip, LABELS[n % 4], f"s{n % 3}{n % 2}", f"corpus{n % 3}")
        for n, clip in enumerate(clips)
    ]
    run, plain = adapting_run(tmp_path / "work")
    run.reference = None
    run.save(tmp_path / "run")
    folds = [[u for u in spoken if u.corpus == f"corpus{n}"] for n in range(3)]
    before = Calibration(3.0, 0.4)
    folders = [
        write_crossval(tmp_path / name, folds, run, plain, before) for name in ("people", "corpora")
    ]
    with pytest.raises(TrainingError, match="name a crossval by speakers"):
        fit_run(tmp_path / "run", spoken, FamiliarityRecipe(crossval=folders[0], jobs=1))
    # Nothing was judged among noises there, and all the same they may be named.
    among = SurroundingSettings(noises=str(clips[0].parent), versions=1)
    recipe = FamiliarityRecipe(
        crossval=folders[0], crossval_corpora=folders[1], jobs=1, around=among
    )
    told = fit_run(tmp_path / "run", spoken, recipe)
    assert told["calibration_error"].keys() == {"speakers", "corpora"}
    kept = load(tmp_path / "run")
    assert kept.familiarity is not None
    assert kept.metrics["familiarity"] == told
    assert kept.calibration["audio"].temperature != 3.0
    built = []
    for fold in sorted(tmp_path.glob("*/fold*")):
        made = load_bundle(fold / "bundle")
        part = made.manifest.familiarity
        assert part is not None
        assert (part.usual, part.slope) == tuple(
            kept.familiarity.settings[name] for name in ("usual", "slope")
        )
        assert made.manifest.calibration["audio"] == kept.calibration["audio"]
        assert made.manifest.plain().calibration["audio"] == kept.plain_calibration["audio"]
        built.append(made.contents["familiarity"])
    # Each knows what trained it: of three folds three, alike in both crossvals.
    assert len(built) == 6
    assert len(set(built)) == 3
    # What comes after begins with that confidence.
    fit_folds(folders[0], spoken, jobs=1)
    adapting = load_bundle(folders[0] / "fold1" / "bundle").manifest
    assert adapting.reference is not None
    assert adapting.familiarity is not None
    assert adapting.calibration["audio"] == kept.calibration["audio"]
