"""A verdict is less sure of what sounds unlike all that trained, and no label changes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from random_models import random_case
from voices import random_reference

from conversion.bundle import build
from conversion.targets import bundle_target
from edge_runtime.bundle import Bundle, load_bundle
from edge_runtime.errors import BundleError
from edge_runtime.familiarity_arrays import FamiliarityArrays
from edge_runtime.manifest import Calibration
from edge_runtime.model.familiarity import LARGEST, SMALLEST, Familiarity, factor
from edge_runtime.model.recognizer import Recognizer
from edge_runtime.model.reference import Reference
from training.evaluate.familiarity import settings_of
from training.network.config import ModelConfig
from training.run import KnownCorpora

Int16 = npt.NDArray[np.int16]

USUAL, SLOPE = 4.0, 0.4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights that adapts to a speaker and is familiar with three corpora."""
    folder = tmp_path_factory.mktemp("familiar")
    run = random_case(ModelConfig(variant="audio+text"), folder / "plain").run
    width = run.config.audio_statistics
    rng = np.random.default_rng(7)
    arrays = FamiliarityArrays(
        rng.normal(0, 0.1, (width, 2)).astype(np.float32),
        rng.normal(0, 2, (3, 2)).astype(np.float32),
    )
    run.reference = random_reference(width)
    run.familiarity = KnownCorpora(
        arrays, settings_of(USUAL, SLOPE, {"audio": Calibration(2.0, 0.3)})
    )
    out = folder / "bundle"
    build(run, out, bundle_target("raspberry-pi"), "familiar", whole=False, allow_loss=True)
    return out


@pytest.fixture(scope="module")
def bundle(made: Path) -> Bundle:
    return load_bundle(made)


def finish(recognizer: Recognizer, samples: Int16, text: str = "", block: int = 777) -> np.ndarray:
    for start in range(0, samples.size, block):
        recognizer.feed(samples[start : start + block])
    verdict = recognizer.finish(text)
    assert verdict is not None
    return verdict.scores


@pytest.mark.parametrize("text", ["", "no idea"])
@pytest.mark.parametrize("adapting", [False, True])
def test_log_odds_are_divided_by_the_factor_of_what_is_heard(
    bundle: Bundle, sentence: Int16, text: str, adapting: bool
) -> None:
    """Whatever the verdict rests on, and after the speaker's reference has been joined."""
    alone = replace(bundle, manifest=replace(bundle.manifest, familiarity=None))
    found = []
    for one in (bundle, alone):
        recognizer = Recognizer(one)
        if adapting:
            recognizer.reference = Reference(one, running=True)
            finish(recognizer, sentence[::-1].copy(), text)
        found.append(finish(recognizer, sentence, text).astype(np.float64))
        heard = recognizer.last
    assert heard is not None
    expected = Familiarity(bundle).factor(heard.audio)
    assert expected not in (1.0, SMALLEST, LARGEST)
    best = found[1].argmax()
    assert found[0].argmax() == best
    likely = found[1] > 1e-9  # below, no logarithm is taken
    assert likely.sum() > 1
    here, there = (np.log(scores[likely] / scores[best]) for scores in found)
    assert here == pytest.approx(there / expected, abs=1e-3)


def test_words_alone_are_as_sure_as_before(bundle: Bundle) -> None:
    alone = replace(bundle, manifest=replace(bundle.manifest, familiarity=None))
    here, there = (Recognizer(one).judge_text("no idea") for one in (bundle, alone))
    assert here is not None
    assert there is not None
    assert here.scores.tolist() == there.scores.tolist()


def test_the_same_bits_however_samples_are_cut(bundle: Bundle, sentence: Int16) -> None:
    whole = finish(Recognizer(bundle), sentence, block=sentence.size)
    for block in (1, 160, 4001):
        assert finish(Recognizer(bundle), sentence, block=block).tolist() == whole.tolist()


def test_the_factor_is_one_as_usual_and_bounded() -> None:
    assert factor(USUAL, USUAL, SLOPE) == 1
    assert factor(USUAL + 1, USUAL, SLOPE) == pytest.approx(np.exp(SLOPE))
    assert (factor(-1e9, USUAL, 1e3), factor(1e9, USUAL, 1e3)) == (SMALLEST, LARGEST)
    assert factor(1e9, USUAL, 0.0) == 1


def test_what_cannot_measure_it_has_a_calibration_of_its_own(bundle: Bundle) -> None:
    plain = bundle.plain().manifest
    assert plain.familiarity is None
    assert plain.calibration["audio"] == Calibration(2.0, 0.3)
    assert plain.calibration["text"] == bundle.manifest.calibration["text"]
    assert plain.plain() is plain


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("slope", -0.1, "familiarity slope -0.1 is no such"),
        ("limit", 0.0, "familiarity limit 0.0 is no such"),
        ("usual", 1e9, "familiarity usual 1000000000.0 is no such"),
        ("without", {"audio": {"temperature": 0.0, "threshold": 0.5}}, "temperature of 'audio'"),
        ("without", {"audio": {"temperature": 1.0}}, "lacks 'threshold'"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(
    made: Path, tmp_path: Path, name: str, value: object, message: str
) -> None:
    changed = Path(shutil.copytree(made, tmp_path / "bundle"))
    raw = json.loads((changed / "manifest.json").read_text())
    raw["familiarity"][name] = value
    (changed / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=message):
        load_bundle(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: replace(a, projection=a.projection[1:]), "projection is float16"),
        (lambda a: replace(a, centres=a.centres[:, :1]), "projection is float16"),
        (lambda a: replace(a, centres=a.centres[:0]), r"centres are \(0, 2\)"),
        (lambda a: replace(a, centres=a.centres[0]), r"centres are \(2,\)"),
        (lambda a: replace(a, centres=a.centres * np.nan), "not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(bundle: Bundle, change, message: str) -> None:  # type: ignore[no-untyped-def]
    arrays = bundle.familiarity()
    assert arrays is not None
    damaged = {**bundle.contents, "familiarity": change(arrays).content()}
    with pytest.raises(BundleError, match=rf"familiarity\.npz: .*{message}"):
        replace(bundle, contents=damaged).familiarity()


def test_without_the_part_there_is_nothing_to_ask(bundle: Bundle) -> None:
    assert bundle.plain().familiarity() is None
    with pytest.raises(BundleError, match="has no familiarity part"):
        Familiarity(bundle.plain())
