"""The same run and tools give the same bytes, in any folder, on any day; diff says what differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from random_models import SAID, random_case

from conversion.__main__ import main
from conversion.diff import differences
from edge_runtime.errors import BundleError
from training.network.config import ModelConfig

# The C library's clocks, 500 days on, for every program that asks them.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#define LATER (500L * 24 * 3600)
int clock_gettime(clockid_t id, struct timespec *now) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, now);
    if (!code && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += LATER;
    return code;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *place) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (place) *place = exact.tv_sec;
    return exact.tv_sec;
}
"""


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproducible")
    config = ModelConfig(variant="audio+text+att+swem", audio_stride=3, audio_kernels=(5, 7))
    random_case(config, folder / "bundle").run.save(folder / "run")
    (folder / "run" / "keywords.txt").write_text(f"{SAID[0]} /1e-5/\\n")
    return folder / "run"


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which it is another day."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler, to set the clock with: apt install gcc libc6-dev")
    folder = tmp_path_factory.mktemp("clock")
    (folder / "clock.c").write_text(CLOCK)
    library = folder / "clock.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, folder / "clock.c", "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    changed = {"LD_PRELOAD": str(library), "TZ": "Pacific/Auckland", "PYTHONHASHSEED": "7"}
    said = subprocess.run(
        [sys.executable, "-c", "import datetime; print(datetime.date.today())"],
        env={**os.environ, **changed},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (date.fromisoformat(said.strip()) - date.today()).days in (499, 500, 501)
    return changed


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_building_again_elsewhere_on_another_day_gives_the_same_bytes(
    run_folder: Path, later: dict[str, str], environment: dict[str, str], tmp_path: Path
) -> None:
    folders = [tmp_path / "here", tmp_path / "a place" / "with umlauts, \u00fc"]
    copy = Path(shutil.copytree(run_folder, tmp_path / "copy" / "of run"))
    for run, folder, changed in ((run_folder, folders[0], {}), (copy, folders[1], later)):
        work = tmp_path / f"cwd of {folder.name}"
        work.mkdir()
        subprocess.run(
            [
                *(sys.executable, "-m", "conversion", "build", run),
                *("--allow-loss", "--target", "all"),
                *("--out", folder, "--name", "same", "--keywords", run / "keywords.txt"),
            ],
            env={**environment, "PYTHONHASHSEED": "1", "TMPDIR": str(work), **changed},
            cwd=work,
            check=True,
            capture_output=True,
            timeout=300,
        )
    one, other = map(files_of, folders)
    assert {"raspberry-pi/manifest.json", "jetson/head.onnx"} <= one.keys()
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    for text in (content for name, content in one.items() if name.endswith((".json", ".md"))):
        assert str(tmp_path).encode() not in text
    for target in ("raspberry-pi", "jetson"):
        assert differences(str(folders[0] / target), str(folders[1] / target)) == []
        versions = json.loads(one[f"{target}/manifest.json"])["versions"]
        assert versions.keys() >= {"torch", "onnx", "onnx2tf", "ai-edge-quantizer", "numpy"}


def change_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    raw = json.loads(path.read_text())
    raw["calibration"]["audio"]["temperature"] = 1.5
    raw["pooled_std"][3] += 0.25
    path.write_text(json.dumps(raw))


def change_weights(folder: Path) -> None:
    path = folder / "head.tflite"
    content = bytearray(path.read_bytes())
    start = len(content) // 2
    for place in range(start, start + 3):
        content[place] = (content[place] + 1) % 256
    path.write_bytes(content)


def change_table(folder: Path) -> None:
    table = np.load(folder / "embeddings.npy")
    table[5, 2] += 4
    np.save(folder / "embeddings.npy", table)


def change_words(folder: Path) -> None:
    path = folder / "vocabulary.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:10], "another\n", *lines[11:]]), encoding="utf-8")


def damage(folder: Path) -> None:
    path = folder / "reference.npz"
    path.write_bytes(path.read_bytes()[:100])


CHANGES: list[tuple[Callable[[Path], Any], list[str]]] = [
    (
        change_manifest,
        [
            "manifest.json: pooled_std: 1 of 7,012 values differ, by at most 0.25",
            "manifest.json: calibration.audio.temperature: 1.156710183370901 and 1.5",
        ],
    ),
    (change_weights, ["head.tflite: constant "]),
    (change_table, ["embeddings.npy: array: 1 of 1,021,450 values differ, by at most 4"]),
    (
        change_words,
        ["vocabulary.txt: 1 line only in the first, 1 line only in the second, such as "],
    ),
    (damage, ["reference.npz: differs, and cannot be read: "]),
]


@pytest.mark.parametrize(("change", "says"), CHANGES, ids=[c[0].__name__ for c in CHANGES])
def test_diff_says_what_was_changed(
    change: Callable[[Path], Any],
    says: list[str],
    bundle_copy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["diff", "default", str(bundle_copy)]) == 0
    assert capsys.readouterr().out == ""
    change(bundle_copy)
    assert main(["diff", "default", str(bundle_copy)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(says)
    for line, start in zip(lines, says, strict=True):
        assert line.startswith(start)


def test_diff_tells_graphs_of_other_operations_and_layouts(
    bundle_copy: Path, bundle_path: Path, tmp_path: Path
) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray((bundle_path / "head.tflite").read_bytes())
    model.description = b"another converter"
    path = bundle_copy / "head.tflite"
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    (line,) = differences("default", str(bundle_copy))
    assert line.startswith("head.tflite: same values, written as ")
    steps = model.subgraphs[0].tensors[0].quantization
    steps.scale = 2 * steps.scale
    model.subgraphs[0].operators.pop()
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    lines = differences("default", str(bundle_copy))
    assert len(lines) == 2
    assert lines[0].startswith("head.tflite: operation FULLY_CONNECTED [1, 4] logits ")
    assert lines[0].endswith("is only in the first")
    assert lines[1].startswith("head.tflite: steps of pooled: 1 of 2 values differ, by at most 0.0")


def test_diff_reads_onnx_archives_and_refuses_what_is_no_bundle(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for form in ("float", "int8"):
        out = ["--out", str(tmp_path / form), "--target", "jetson", "--form", form, "--name", "b"]
        assert main(["build", str(run_folder), "--allow-loss", *out]) == 0
    lines = differences(str(tmp_path / "float"), str(tmp_path / "int8"))
    assert any("head.onnx: operation QuantizeLinear of" in line for line in lines)
    assert not any(line.startswith(("vocabulary", "embeddings")) for line in lines)
    path = tmp_path / "float" / "head.onnx"
    model = onnx.load(str(path))
    weights = next(i for i in model.graph.initializer if i.name == "layers.0.weight")
    values = numpy_helper.to_array(weights).copy()
    values[0, :2] += 0.5
    archive = tmp_path / "float.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for inner in (tmp_path / "float").iterdir():
            file.write(inner, f"float/{inner.name}")
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(model, str(path))
    (line,) = differences(str(tmp_path / "float"), str(archive))
    assert line.startswith("head.onnx: constant layers.0.weight: 2 of ")
    assert line.endswith("values differ, by at most 0.5")
    capsys.readouterr()
    assert main(["diff", str(tmp_path / "none"), "default"]) == 2
    assert "no bundle at" in capsys.readouterr().err
    with pytest.raises(BundleError, match=r"cannot read manifest\.json"):
        differences("default", str(run_folder))
