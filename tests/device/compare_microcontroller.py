"""The graphs in TensorFlow Lite Micro, and the C99 library on emulated processors.

Run by `make test-microcontroller`; not collected by a plain pytest, for it needs an environment, a
compiler and an emulator of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cortex_m import BOARDS, Board, Firmware

from conversion.__main__ import main
from edge_runtime import load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import ATTENTION, AUDIO_ENCODER, HEAD, TEXT_ENCODER
from edge_runtime.model.recognizer import Recognizer

HERE = Path(__file__).parent
ROLES = (AUDIO_ENCODER, TEXT_ENCODER, ATTENTION, HEAD)
LEAST_CLIPS, WORDS = 50, 9
_TIMEOUT = 300  # seconds
Int8 = npt.NDArray[np.int8]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """As the library is calibrated: it does not tell how familiar a sound is."""
    return load_bundle().plain()


@pytest.fixture(scope="module")
def spoken(corpora: Path, bundle: Bundle) -> list[tuple[npt.NDArray[np.int16], str]]:
    """Real clips, each with words of its own."""
    paths = [
        *sorted(corpora.glob("ravdess/*/*.flac"))[::16],
        *sorted(corpora.glob("emodb/wav/*.flac"))[::12],
    ]
    assert len(paths) >= LEAST_CLIPS
    words = bundle.vocabulary()
    return [
        (read_file(path), " ".join(words[WORDS * number : WORDS * (number + 1)]))
        for number, path in enumerate(paths)
    ]


class Recorder:
    """A graph that keeps what it is given."""

    def __init__(self, graph: Any) -> None:
        self._graph, self.given = graph, []
        self.inputs, self.outputs, self.engine = graph.inputs, graph.outputs, graph.engine

    def __call__(self, *inputs: Int8) -> list[Int8]:
        self.given.append([value.copy() for value in inputs])
        return list(self._graph(*inputs))


@pytest.fixture(scope="module")
def given(bundle: Bundle, spoken: list[Any]) -> dict[str, list[list[Int8]]]:
    """Inputs of every graph for every clip, in the order of their names."""
    recorders = {role: Recorder(bundle.open_graph(role)) for role in ROLES}
    listening = load_bundle().plain()  # what a microcontroller hears with
    listening._graphs.update({(role, 1, None): r for role, r in recorders.items()})  # type: ignore[misc]
    recognizer = Recognizer(listening)
    for samples, words in spoken:
        recognizer.feed(samples)
        assert recognizer.finish(words) is not None
    return {role: recorder.given for role, recorder in recorders.items()}


@pytest.mark.parametrize("role", ROLES)
def test_tflite_micro_computes_the_integers_of_litert(
    role: str, bundle: Bundle, given: dict[str, list[list[Int8]]], tmp_path: Path, say: Callable
) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    graph = tmp_path / "graph.tflite"
    graph.write_bytes(bundle.contents[role])
    # As TensorFlow Lite Micro, without XNNPACK, which rounds its products once instead of twice.
    kernels = Interpreter(
        model_path=str(graph),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    kernels.allocate_tensors()
    names = [spec.name for spec in bundle.manifest.graphs[role].inputs]
    entries, ends = kernels.get_input_details(), kernels.get_output_details()
    runs = given[role]
    rows = {
        f"input_{place}": np.stack([run[names.index(entry["name"])] for run in runs])
        for place, entry in enumerate(entries)
    }
    np.savez(tmp_path / "in.npz", outputs=len(ends), **rows)
    done = subprocess.run(
        [
            os.environ["EDGE_EMOTION_TFLITE_MICRO_PYTHON"],
            str(HERE / "in_tflite_micro.py"),
            *(str(path) for path in (graph, tmp_path / "in.npz", tmp_path / "out.npz")),
        ],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    arena = re.search(r"Arena allocation total (\d+)", done.stdout + done.stderr)
    assert arena is not None, done.stdout + done.stderr
    found = np.load(tmp_path / "out.npz")
    delegate = bundle.open_graph(role)
    other = 0
    for index, run in enumerate(runs):
        for place, entry in enumerate(entries):
            kernels.set_tensor(entry["index"], rows[f"input_{place}"][index])
        kernels.invoke()
        by_name = dict(zip([s.name for s in delegate.outputs], delegate(*run), strict=True))
        for place, end in enumerate(ends):
            theirs = found[f"output_{place}"][index]
            np.testing.assert_array_equal(theirs, kernels.get_tensor(end["index"]))
            apart = np.abs(theirs.astype(int) - by_name[end["name"]]).max()
            other = max(other, int(apart))
    # Where sums are rounded once in place of twice, a step; through the softmax, a few.
    assert other <= (5 if role == ATTENTION else 1)
    say(
        f"TensorFlow Lite Micro, {role}: {len(runs)} runs of {len(given[HEAD])} clips give the "
        f"integers of LiteRT's kernels, at most {other} steps from XNNPACK's; arena "
        f"{int(arena[1]):,} bytes"
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library as the command builds it."""
    out = tmp_path_factory.mktemp("library") / "c99"
    assert main(["build", "default", "--out", str(out), "--target", "microcontroller"]) == 0
    return out


@pytest.mark.parametrize("board", BOARDS, ids=[board.core for board in BOARDS])
def test_the_library_says_on_the_board_what_the_device_says(
    board: Board, bundle: Bundle, spoken: list[Any], sources: Path, tmp_path: Path, say: Callable
) -> None:
    firmware = Firmware(board, sources, tmp_path / "firmware")
    assert "golden vectors: passed" in firmware.golden()
    clips = [samples for samples, _ in spoken[:: len(spoken) // board.clips][: board.clips]]
    found, state = firmware.hear(clips)
    recognizer = Recognizer(bundle)
    threshold = bundle.manifest.calibration["audio"].threshold
    for clip, heard in zip(clips, found, strict=True):
        recognizer.feed(clip)
        verdict = recognizer.finish()
        assert verdict is not None
        best = int(verdict.scores.argmax())
        assert heard.label == (best if verdict.scores[best] >= threshold else -1)
        assert np.abs(heard.scores - verdict.scores).max() < 0.02  # a step of each logit
    seconds = sum(heard.seconds for heard in found)
    millions = sum(heard.instructions for heard in found) / seconds / 1e6
    most = max(heard.most for heard in found) / 1e6
    end = max(heard.end for heard in found) / 1e6
    say(
        f"{board.core} ({board.machine}): {len(found)} clips, the device's labels; flash "
        f"{firmware.flash:,} bytes, RAM {firmware.static + state:,}; estimated: {millions:.1f} "
        f"million instructions a second of audio, {most:.1f} at most for 10 ms, {end:.1f} at the "
        "end"
    )
    assert firmware.flash < 2_000_000
    assert firmware.static + state < 64_000


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a line of the report, whatever pytest captures."""

    def printed(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", flush=True)

    return printed
