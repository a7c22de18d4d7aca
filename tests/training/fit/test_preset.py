"""--preset paper: what the paper gives, and nothing that it did not use."""

from __future__ import annotations

import re
from pathlib import Path

from edge_runtime.settings import from_arguments
from training.__main__ import parser
from training.commands.common import PRESETS, with_preset
from training.commands.fit import FitRecipe
from training.fit.schedule import lr_factor

PAGE = Path(__file__).parents[3] / "docs" / "paper.md"


def recipe(*arguments: str) -> FitRecipe:
    return from_arguments(FitRecipe, with_preset(parser(), ["fit", "ravdess=x", *arguments]))


def test_the_preset_is_the_paper_s_schedule_and_shape() -> None:
    chosen = recipe("--preset", "paper")
    assert (chosen.schedule.lr, chosen.schedule.batch, chosen.schedule.clip_norm) == (5e-4, 64, 1)
    assert (chosen.model.filters, chosen.model.dropout, chosen.model.attention_scale) == (
        128,
        0.3,
        1,
    )
    off = ("mixup", "label_smoothing", "weight_decay", "ema", "noise", "gain_db", "time_masks")
    assert not any(getattr(chosen.schedule, name) for name in off)
    assert not chosen.schedule.augment
    assert not chosen.schedule.balance


def test_an_option_beside_the_preset_wins_wherever_it_stands() -> None:
    assert recipe("--preset", "paper", "--lr", "1e-3").schedule.lr == 1e-3
    assert recipe("--lr", "1e-3", "--preset", "paper").schedule.lr == 1e-3
    # Also where it is what the default was.
    assert recipe("--mixup", "0.3", "--preset", "paper").schedule.mixup == 0.3


def test_without_the_preset_nothing_changes() -> None:
    assert recipe() == FitRecipe()


def test_a_constant_rate_is_constant_up_to_quantization() -> None:
    rates = [lr_factor(s, 0, 80, 100, (1.0, 0.1), constant=True) for s in range(80)]
    assert rates == [1.0] * 80


def test_the_page_names_every_option_of_the_preset() -> None:
    """`docs/paper.md` says how each point goes back to the paper; the preset does just that."""
    page = PAGE.read_text(encoding="utf-8")
    named = {name.replace("-", "_") for name in re.findall(r"--(?:no-)?([a-z-]+)", page)}
    unsaid = {"embedding_lr", "punctuation_dropout", "clip_norm", "teacher"}  # as the paper has it
    assert PRESETS["paper"].keys() - unsaid <= named
