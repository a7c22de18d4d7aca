"""What follows the pre-trained encoder: fitted on statistics, joined with verdicts, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.manifest import AUDIO, BOTH
from edge_runtime.model.fusion import softmax
from edge_runtime.pcm import Float32
from edge_runtime.pretrained_arrays import read_pretrained
from training.commands.pretrained import SUMMARY, VERDICTS, PretrainedRecipe, join_run
from training.corpora import NO_CLASS, Utterance
from training.errors import TrainingError
from training.evaluate.crossval_files import joint_calibration, write_verdicts
from training.evaluate.pretrained import (
    STRENGTH,
    States,
    distances,
    fit_layer,
    join_verdicts,
    opinions,
)
from training.run import DEFAULT_RUN
from training.tiers import LARGE, MEDIUM

LABELS = ["calm", "cross"]
RNG = np.random.default_rng(11)

Part = tuple[list[Utterance], Float32]


def people(corpus: str, clips: int, label: str, at: float) -> Part:
    """Clips whose statistics lie around `at` in the first of six columns; two variants each."""
    found = [
        Utterance(Path(f"{label}{n}.wav"), label, f"{corpus}-{n % 3}", corpus) for n in range(clips)
    ]
    values = RNG.standard_normal((clips, 2, 6)).astype(np.float32)
    values[:, :, 0] += at
    return found, values


def states(*parts: Part) -> States:
    return States(
        [u for found, _ in parts for u in found], np.concatenate([values for _, values in parts])
    )


def test_the_layer_tells_classes_and_knows_nothing_of_what_says_nothing() -> None:
    spoken = states(
        people("a", 60, "calm", 3.0),
        people("a", 20, "cross", -3.0),
        people("b", 10, "cross", -3.0),
        people("b", 10, "calm", 3.0),
    )
    loud = people("nonspeech", 40, NO_CLASS, 3.0)
    loud[1][:, :, 1] += 4.0  # by which it can be told apart
    plain = fit_layer(spoken, LABELS)
    taught = fit_layer(spoken.with_more(states(loud)), LABELS)
    truth = [LABELS.index(u.label) for u in spoken.utterances]
    for layer in (plain, taught):
        assert np.mean(opinions(layer, spoken.values[:, 0]).argmax(axis=1) == truth) > 0.95
    surest = [
        float(np.exp(opinions(layer, loud[1][:, 0])).max(axis=1).mean())
        for layer in (plain, taught)
    ]
    assert surest[1] < surest[0] - 0.05


def test_corpora_count_alike_however_many_clips_they_have() -> None:
    """Of two corpora that contradict each other the larger does not win."""
    both = states(
        people("many", 300, "calm", 1.0),
        people("many", 300, "cross", -1.0),
        people("few", 30, "calm", -1.0),
        people("few", 30, "cross", 1.0),
    )
    weights = fit_layer(both, LABELS).weights
    assert abs(weights[0, 0] - weights[0, 1]) < 0.15


def test_what_a_device_changes_of_a_clip_tells_less() -> None:
    """Of two columns that tell the classes alike, the one that devices change counts less."""
    spoken = states(people("a", 300, "calm", 1.0), people("a", 300, "cross", -1.0))
    spoken.values[:, :, 1] = spoken.values[:, :, 0] + RNG.standard_normal((600, 1)) * 0.1
    steady = spoken.values[:, :1] + RNG.standard_normal((600, 1, 6)) * 0.01
    steady = np.repeat(steady, 2, axis=1).astype(np.float32)
    changed = steady.copy()
    shift = RNG.standard_normal(600) * 0.5
    changed[:, :, 0] += np.stack([shift, -shift], axis=1)
    alike, other = (fit_layer(States(spoken.utterances, v), LABELS) for v in (steady, changed))
    ratios = [
        np.abs(layer.weights[0]).sum() / np.abs(layer.weights[1]).sum() for layer in (alike, other)
    ]
    assert ratios[1] < 0.6 * ratios[0]


def test_corpora_are_places_by_which_the_unlike_is_far() -> None:
    spoken = states(
        people("a", 60, "calm", 3.0), people("a", 60, "cross", 3.0), people("b", 60, "calm", -3.0)
    )
    spoken.values[:, :, 5] = 7.0  # never differs
    layer = fit_layer(spoken, LABELS)
    assert layer.familiarity is not None
    assert layer.familiarity.centres.shape == (2, 1)
    kept = read_pretrained(layer.content(), 3, 2)
    strange = states(people("c", 30, "calm", 40.0))
    strange.values[:, :, 5] = 7.0
    near, far = (distances(kept, some) for some in (spoken, strange))
    assert set(near) == {"int8", "degraded"}
    for form in near:
        assert near[form].mean() < far[form].min() - 3
    assert (
        fit_layer(states(people("a", 9, "calm", 0), people("a", 9, "cross", 0)), LABELS).familiarity
        is None
    )


def test_confidence_falls_with_what_is_far_away(tmp_path: Path) -> None:
    """Where what is far is wrong the slope is above zero, and what is near is surer for it."""
    from training.commands.pretrained import _borrowed

    summary = {"metrics": {"corpora": {}}}
    folders = []
    for name, right, away in (("folds", 4.0, 1.0), ("corpora", 0.5, 3.0)):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        truth = RNG.integers(0, 2, 400)
        logits = RNG.standard_normal((400, 2)).astype(np.float32) * 2
        logits[np.arange(400), truth] += right
        far = {"int8": RNG.normal(away, 0.3, 400)}
        file = folders[-1] / VERDICTS.format(tier=MEDIUM)
        write_verdicts(file, {"audio/int8": logits}, truth, far)
    calibration, _, distance = _borrowed(folders, [summary, summary], MEDIUM)
    assert distance["distance_slope"] > 0.1
    assert distance["usual_distance"] == pytest.approx(1.0, abs=0.1)
    one, _ = joint_calibration(folders, VERDICTS.format(tier=MEDIUM))
    assert calibration[AUDIO].temperature < 0.9 * one[AUDIO].temperature  # of what is near


def test_a_missing_class_is_named() -> None:
    with pytest.raises(TrainingError, match="no cross"):
        fit_layer(states(people("a", 9, "calm", 0.0)), LABELS)


def test_verdicts_are_joined_by_variant() -> None:
    spoken = states(people("a", 12, "calm", 2.0), people("a", 12, "cross", -2.0))
    layer = fit_layer(spoken, LABELS)
    logits = RNG.standard_normal((24, 2)).astype(np.float32)
    found = join_verdicts(
        {
            "audio/int8": logits,
            "audio/degraded": logits,
            "audio/float": logits,
            "text/int8": logits,
        },
        {AUDIO: 2.0},
        spoken,
        layer,
    )
    assert sorted(found) == ["audio/degraded", "audio/int8"]
    for variant, key in enumerate(("audio/int8", "audio/degraded")):
        product = softmax(logits, 2.0) * np.exp(
            STRENGTH * opinions(layer, spoken.values[:, variant])
        )
        expected = product / product.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(softmax(found[key]), expected, atol=1e-5)


def test_a_run_needs_a_crossval_that_was_joined(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--crossval"):
        join_run(DEFAULT_RUN, [], PretrainedRecipe())
    with pytest.raises(TrainingError, match=r"python -m training pretrained .* comes first"):
        join_run(DEFAULT_RUN, [], PretrainedRecipe(crossval=tmp_path))


def test_confidence_is_of_all_crossvals_and_figures_of_the_first(tmp_path: Path) -> None:
    from training.commands.pretrained import _borrowed, _summary

    for number, name in enumerate(("folds", "corpora")):
        folder = tmp_path / name
        folder.mkdir()
        truth = RNG.integers(0, 2, 200)
        logits = RNG.standard_normal((200, 2)).astype(np.float32)
        logits[np.arange(200), truth] += 3.0 - 2.0 * number
        verdicts = {"audio/int8": logits} | ({"audio+text/int8": logits} if not number else {})
        np.savez(folder / VERDICTS.format(tier=MEDIUM), truth=truth, **verdicts)
        metrics = {"corpora": {name: {}}}
        file = folder / SUMMARY.format(tier=MEDIUM)
        file.write_text(json.dumps({"metrics": metrics}), encoding="utf-8")
    folders = [tmp_path / "folds", tmp_path / "corpora"]
    summaries = [_summary(folder, MEDIUM) for folder in folders]
    with pytest.raises(TrainingError, match=f"pretrained {folders[0]} --tier large"):
        _summary(folders[0], LARGE)
    calibration, metrics, distance = _borrowed(folders, summaries, MEDIUM)
    alone, _, _ = _borrowed(folders[:1], summaries[:1], MEDIUM)
    assert distance == {}  # nobody measured how far away they are
    assert set(calibration) == {AUDIO, BOTH}
    assert calibration[AUDIO].temperature > alone[AUDIO].temperature
    assert set(metrics["corpora"]) == {"folds"}
    assert set(metrics["unseen"]["corpora"]) == {"corpora"}
