"""One command for every target; what a target lacks is said in one line, and the rest is built."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from random_models import random_case

from conversion.__main__ import main
from conversion.artifact import derive
from conversion.bundle import build
from conversion.errors import ConversionError
from conversion.targets import DerivedTarget, bundle_target, target_named, targets
from conversion.targets.ethos_u import ACCELERATORS
from edge_runtime import load_bundle
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError
from training.network.config import ModelConfig

Command = Callable[..., subprocess.CompletedProcess[str]]
NPUS = [accelerator.name for accelerator in ACCELERATORS]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of random weights that hears and reads."""
    folder = tmp_path_factory.mktemp("targets")
    config = ModelConfig(variant="audio+text+att+swem", audio_stride=3, audio_kernels=(5, 7))
    random_case(config, folder / "bundle").run.save(folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def npu(tmp_path_factory: pytest.TempPathFactory, bundle_path: Path) -> Path:
    """The bundle in the box for Ethos-U, by the command a user gives."""
    pytest.importorskip("ethosu")
    out = tmp_path_factory.mktemp("npu") / "npu"
    assert main(["build", "default", "--target", "ethos-u", "--out", str(out)]) == 0
    return out


def test_every_graph_is_whole_on_every_npu(npu: Path) -> None:
    report = json.loads((npu / "report.json").read_text())
    assert {"ethos-u55-256", "ethos-u65-512", "ethos-u85-256"} <= set(NPUS)
    assert [row["name"] for row in report["accelerators"]] == NPUS
    text = (npu / "REPORT.md").read_text()
    for row in report["accelerators"]:
        assert row["name"] in text
        assert {g["graph"] for g in row["graphs"]} == {
            *("audio_encoder", "text_encoder", "attention", "head"),
        }
        for graph in row["graphs"]:
            assert graph["cpu_operators"] == 0
            assert graph["npu_operators"] > 0
            assert graph["cycles"] > 1000
            assert 0 < graph["sram_bytes"] < 256 * 1024
            made = npu / row["name"] / f"{graph['graph']}_vela.tflite"
            content = made.read_bytes()
            assert len(content) == graph["file_bytes"]
            assert b"ethos-u" in content  # the one operation that is left


def test_a_device_refuses_it_and_says_what_to_build(npu: Path) -> None:
    with pytest.raises(BundleError) as refused:
        load_bundle(npu)
    assert "it is made for 'ethos-u'" in str(refused.value)
    assert "python -m conversion build RUN --out BUNDLE --target raspberry-pi" in str(refused.value)


def test_an_artifact_is_replaced_but_nothing_beside_it(npu: Path, bundle: Bundle) -> None:
    target = target_named("ethos-u")
    assert isinstance(target, DerivedTarget)
    before = {path: path.read_bytes() for path in npu.rglob("*") if path.is_file()}
    (npu / "notes.txt").write_text("mine")
    with pytest.raises(ConversionError, match=r"holds notes\.txt, which is no part of the bundle"):
        derive(bundle, npu, target)
    (npu / "notes.txt").unlink()
    derive(bundle, npu, target)
    assert before == {path: path.read_bytes() for path in npu.rglob("*") if path.is_file()}


def test_an_operation_that_the_npu_lacks_is_named_with_its_layer(small_path: Path) -> None:
    pytest.importorskip("ethosu")
    with pytest.raises(ConversionError) as refused:
        target_named("ethos-u").check(small_path / "whole.tflite")
    line = str(refused.value)
    assert "whole.tflite: ethos-u55-256 does not take DEPTHWISE_CONV_2D of layer depthwise" in line
    assert "Unsupported kernel stride" in line
    assert "operators would run on the processor" in line


def test_what_is_no_graph_is_said_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    (tmp_path / "none.tflite").write_bytes(b"nothing")
    with pytest.raises(
        ConversionError, match=r"vela failed on none\.tflite for ethos-u55-256"
    ) as no:
        target_named("ethos-u").check(tmp_path / "none.tflite")
    assert "\n" not in str(no.value)


def test_a_missing_compiler_names_the_command_and_changes_nothing(
    python_module: Command, npu: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(npu, tmp_path / "npu"))
    before = (out / "manifest.json").read_bytes()
    arguments = ("build", "default", "--target", "ethos-u", "--out", out)
    done = python_module("conversion", *arguments, missing="ethosu")
    assert done.returncode == 2
    assert done.stderr == (
        "conversion: target ethos-u needs Arm's compiler Vela, which is not installed: "
        "pip install -e '.[ethos-u]' in a checkout, on a workstation\n"
    )
    assert (out / "manifest.json").read_bytes() == before


def test_all_targets_are_built_but_the_one_whose_compiler_is_missing(
    python_module: Command, run_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "all"
    arguments = ("build", run_folder, "--target", "all", "--allow-loss", "--out", out)
    done = python_module("conversion", *arguments, missing="ethosu", timeout=300)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "was not built" in line]
    assert line.startswith("conversion: ethos-u was not built: target ethos-u needs Arm's compiler")
    built = sorted(path.name for path in out.iterdir())
    assert built == sorted(set(targets()) - {"ethos-u"})
    for name in ("raspberry-pi", "jetson"):
        manifest = load_bundle(out / name).manifest
        assert (manifest.target, manifest.targets, manifest.name) == (name, (name,), "all")
        assert f"{out / name}: {name} bundle" in done.stdout


def test_a_run_is_converted_first_where_a_bundle_is_needed(
    run_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ethosu")
    out = tmp_path / "npu"
    assert (
        main(["build", str(run_folder), "--allow-loss", "--target", "ethos-u", "--out", str(out)])
        == 0
    )
    raw = json.loads((out / "manifest.json").read_text())
    assert (raw["targets"], raw["name"]) == (["ethos-u"], "npu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["npu"]


def test_a_finished_bundle_makes_no_other_bundle(
    bundle_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "b.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in bundle_path.iterdir():
            file.write(path, path.name)
    for source in ("default", bundle_path, archive):
        out = tmp_path / "out"
        assert main(["build", str(source), "--target", "jetson", "--out", str(out)]) == 2
        line = capsys.readouterr().err
        assert "the bundle for jetson is made of a training run" in line
        assert f"python -m conversion build RUN --out {out} --target jetson" in line
        assert not out.exists()


def test_an_artifact_is_made_of_int8_graphs_alone(run_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ethosu")
    from training.run import load

    build(load(run_folder), tmp_path / "j", bundle_target("jetson"), "j")
    target = target_named("ethos-u")
    assert isinstance(target, DerivedTarget)
    with pytest.raises(ConversionError, match="is one for jetson, of onnx graphs") as refused:
        derive(load_bundle(tmp_path / "j"), tmp_path / "out", target)
    assert "--target raspberry-pi" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_lists_the_others(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(run_folder), "--target", "toaster", "--out", str(tmp_path / "x")]
    assert main(arguments) == 2
    listed = capsys.readouterr().err
    assert "unknown target 'toaster'; there is raspberry-pi, jetson, " in listed
    assert listed.endswith(", all\n")
