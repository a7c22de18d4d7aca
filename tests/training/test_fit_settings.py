"""Settings that cannot be meant are refused, in one line that names the option."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pytest

from benchmarks.__main__ import main as benchmark
from edge_runtime.errors import SettingError
from edge_runtime.settings import Settings
from training.__main__ import main
from training.commands.common import ModelSettings, SpeakerSettings
from training.commands.variants import CostSettings
from training.evaluate.table import TableSettings
from training.fit.settings import FitSettings
from training.speech.settings import KeywordSettings, TranscribeSettings
from training.words.distil import DistilSettings
from training.words.settings import WordSettings

FIT = """--batch 0;--batch 1;--epochs 0;--qat-epochs 0;--lr nan;--lr 0;--lr inf;--qat-lr -1;--ema 1;
--seed -1;--seed 4294967296;--clip-norm 0;--label-smoothing 1;--mixup -1;--word-dropout 1.5;
--modality-dropout 2;--feature-mask-width 33;--time-masks -1;--weight-decay -0.1;--gain-db -1;
--noise nan;--min-frames 0;--epoch-steps 0;--dropout 2;--dropout 1;--filters 0;--hidden 0;
--stride 0;--dilations 0;--dilations 1,x;--vocabulary -1;--watch 1;--watch -0.1;--watch nan;
--distil 1.5;--distil-folds 1;--teacher-lr 0;--embedding-lr -1;--punctuation-dropout 2"""
CASES = [
    *(("fit", *case.split()) for case in FIT.replace("\n", "").split(";")),
    ("fit", "--min-frames", "300"),
    ("crossval", "--folds", "0"),
    ("crossval", "--folds", "1"),
    ("crossval", "--folds", "5"),
    ("crossval", "--jobs", "0"),
    ("table", "--seeds", "0"),
    ("table", "--jobs", "-2"),
    ("transcribe", "--jobs", "-1"),
    ("keywords", "--count", "0"),
    ("keywords", "--min-hits", "2"),
]


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_a_setting_that_cannot_be_meant_is_one_line(
    case: tuple[str, ...], tones_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, option, value = case
    arguments = [command, f"manifest={tones_csv}", option, value, "--out", str(tmp_path / "out")]
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    assert code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert option.strip("-").replace("-", "_") in line.replace("-", "_")
    assert value in line
    assert "internal error" not in line


@pytest.mark.parametrize(
    ("command", "option"), [("peers", "--folds"), ("peers", "--jobs"), ("text", "--spoken")]
)
def test_benchmarks_refuse_them_as_well(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        benchmark([command, *(["manifest=x.csv"] if command == "text" else []), option, "0"])
    assert end.value.code == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize("filters", ["0", "-1"])
def test_the_cost_of_no_model_is_not_told(filters: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["variants", "--filters", filters])
    assert f"--filters: must be a whole number at least 1, not '{filters}'" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "settings",
    [
        FitSettings,
        ModelSettings,
        SpeakerSettings,
        CostSettings,
        TableSettings,
        TranscribeSettings,
        WordSettings,
        DistilSettings,
        KeywordSettings,
    ],
)
def test_every_number_has_bounds_and_every_setting_its_help(settings: type[Settings]) -> None:
    for item in dataclasses.fields(settings):  # type: ignore[arg-type]
        assert item.metadata["help"]
        if str(item.type).startswith(("int", "float")):
            assert str(item.metadata["limits"]), item.name
    chosen = settings()
    assert pickle.loads(pickle.dumps(chosen)) == chosen  # folds are trained in other processes


def test_python_meets_the_same_bounds() -> None:
    with pytest.raises(SettingError, match="batch must be a whole number at least 2, not 0"):
        FitSettings(batch=0)
    with pytest.raises(SettingError, match="min_frames 300 is above max_frames 220"):
        FitSettings(min_frames=300)


def test_a_run_keeps_the_names_of_folders_and_not_where_they_stood() -> None:
    settings = FitSettings(noises="/home/me/rain, /home/me/cafe/", asr_noise="0.24", rooms="hall")
    kept = settings.record()
    assert (kept["noises"], kept["rooms"], kept["babble"]) == ("rain,cafe", "hall", "")
    assert kept["asr_noise"] == "0.24"
    assert "/home/me" not in str(kept)
    same = {name: value for name, value in kept.items() if name != "noises"}
    assert same.items() <= dataclasses.asdict(settings).items()
