"""Under which rules peers are trained and judged: each corpus by itself, or as `crossval` does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.errors import BenchmarkError
from edge_runtime.settings import Settings, setting
from training.commands.common import CLASSES, FOUR, FoldSettings, VariantRecipe, load_data
from training.corpora import Utterance, load_corpora
from training.corpora.class_map import open_classes
from training.data.folds import Cut, Fold, cut_folds, fold_protocol, unjudged

log = logging.getLogger(__name__)

FOLDS = 5


@dataclass(frozen=True)
class PeerSettings(Settings):
    """Which peers are judged, and how."""

    together: bool = setting(
        False,
        "Train on all corpora at once and judge each, over the folds of training crossval; "
        "otherwise each corpus has a classifier of its own. --by corpus implies it.",
    )
    ordinary: str = setting(
        "",
        "Class that ordinary speech trains as and is judged by, such as neutral for LibriSpeech; "
        "without it such a corpus is refused.",
        metavar="CLASS",
    )
    classes: str = setting(FOUR, CLASSES, metavar="MAP")
    only: str = setting(
        "",
        "Peers to judge, apart by commas, of eGeMAPSv02, ComParE_2016, resemblyzer, light-sernet, "
        "tim-net, reslstm-sa; by default the first three, as far as they are installed: the others "
        "are networks, which train for minutes a fold.",
        metavar="PEER,...",
    )
    epochs: int | None = setting(
        None,
        "Epochs that a network trains for (default: what makes so many updates of its weights: "
        "light-sernet 800, tim-net 1000, reslstm-sa 3000; fewer than in their papers).",
        metavar="N",
        minimum=1,
        maximum=100_000,
    )
    folds: FoldSettings = field(default_factory=FoldSettings)

    @property
    def cut(self) -> Cut:
        """How folds are cut. Raises TrainingError like `FoldSettings.cut`."""
        return self.folds.cut(FOLDS)

    @property
    def all_at_once(self) -> bool:
        """Whether a classifier learns from all corpora."""
        return self.together or self.cut == "corpus"


@dataclass(frozen=True)
class Group:
    """Corpora that are trained and judged together."""

    utterances: list[Utterance]
    plan: list[Fold]
    """Indices into the utterances."""
    protocol: str
    """What the folds rest on, in the words of `crossval`."""


def groups(corpora: Sequence[str], settings: PeerSettings) -> list[Group]:
    """All `corpora` (NAME=PATH) as one, or one group each.

    As one, utterances and folds are the very ones of `python -m training crossval` with the same
    `--by`, `--folds`, `--classes` and `--ordinary`: clips that it leaves out, as silent or
    unreadable, are left out before folds are cut.

    Raises TrainingError for corpora that cannot be read or do not fold, BenchmarkError for one
    without audio.
    """
    cut = settings.cut
    if settings.all_at_once:
        from training.data.features import extract

        found, spoken, _, _ = load_data(
            corpora, VariantRecipe(ordinary=settings.ordinary, classes=settings.classes)
        )
        heard = {u.corpus for u in spoken}
        parts = [extract(spoken, workers=settings.folds.jobs).utterances]
    else:
        found = load_corpora(corpora, settings.ordinary or None, open_classes(settings.classes))
        parts = [[u for u in f.utterances if u.path is not None] for f in found.values()]
        heard = {u.corpus for part in parts for u in part}
    for name in found:
        if name not in heard:
            raise BenchmarkError(f"{name} has no audio to compare on: its utterances are text only")
    return [_group(part, cut) for part in parts]


def _group(utterances: list[Utterance], cut: Cut) -> Group:
    plan = cut_folds(utterances, cut)
    for line in unjudged(utterances, plan):
        log.warning("%s", line)
    return Group(utterances, plan, fold_protocol(utterances, len(plan), cut))
