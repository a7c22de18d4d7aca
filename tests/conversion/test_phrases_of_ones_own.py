"""Lists of phrases in bundles: those that say what a phrase tells, and those that do not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from random_models import random_case

from conversion.bundle import PHRASES_LIMIT, _listed, build
from conversion.errors import ConversionError
from conversion.targets import bundle_target
from edge_runtime.manifest import KEYWORDS
from edge_runtime.model.spotted import Spotted
from training.data.features import FeatureSettings
from training.network.config import ModelConfig
from training.run import Run

LABELS = ("angry", "happy", "neutral", "sad")
TELLING = "# weights: log-odds\nleave me alone\t1e-5\tangry=1 happy=-1 neutral=-1 sad=0\n"
LEARNED = "leave me alone\t1e-5\tangry=7.5\n"


def listed(folder: Path, content: str) -> Path:
    path = folder / "own.txt"
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("variant", ["audio", "audio+text"])
def test_a_bundle_judges_by_a_list_that_says_what_phrases_tell(
    variant: str, tmp_path: Path
) -> None:
    path = tmp_path / "bundle"
    bundle = random_case(ModelConfig(variant=variant), path, listed(tmp_path, TELLING)).bundle
    part = bundle.manifest.phrases
    assert part is not None
    assert part.limit == pytest.approx(math.log(20))
    assert bundle.contents[KEYWORDS].decode() == TELLING
    assert bundle.manifest.text is None or bundle.manifest.text.keywords is None
    spotted = Spotted.of(bundle)
    assert spotted is not None
    assert spotted.evidence("leave me alone") == [1, -1, -1, 0]


def test_a_learned_list_counts_for_nothing(tmp_path: Path) -> None:
    assert _listed(listed(tmp_path, LEARNED), LABELS)[1] == 0
    assert _listed(listed(tmp_path, TELLING), LABELS)[1] == PHRASES_LIMIT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TELLING.replace("sad=0", "sad=0 tired=1"), "names a class that the run does not have: ti"),
        (TELLING.replace(" sad=0", ""), "'leave me alone' does not say what it tells about: sad"),
    ],
)
def test_a_list_for_other_classes_is_refused_before_any_work(
    content: str, message: str, tmp_path: Path
) -> None:
    run = Run(ModelConfig(), FeatureSettings(), {}, {})  # no weights: nothing could be built
    target, out = bundle_target("raspberry-pi"), tmp_path / "bundle"
    with pytest.raises(ConversionError, match=message):
        build(run, out, target, "x", keywords=listed(tmp_path, content))
    assert not out.exists()
