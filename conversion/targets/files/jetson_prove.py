#!/usr/bin/env python3
"""Prove a bundle for Jetson on the board: parity and latency of every provider that starts.

    python3 prove.py [--json FILE]        in an environment with edge-emotion and onnxruntime-gpu

Each graph of the bundle that this file is in runs the same inputs through ONNX Runtime on the CPU,
with CUDA and with TensorRT, and through trtexec where that is installed; then whole utterances go
through the device's own code. The CPU is what was held against PyTorch where the bundle was built.
Exit code 0 where all that started agrees, 1 where something differs, 3 where no GPU was used.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime import EmotionStream, load_bundle
from edge_runtime.audio.file import read_file
from edge_runtime.bench import measure, speechlike_noise
from edge_runtime.bundle import Bundle
from edge_runtime.errors import EdgeError
from edge_runtime.graph import ONNX_ENGINES, Graph
from edge_runtime.stream import classify

HERE = Path(__file__).resolve().parent
CPU, *OTHERS = reversed(ONNX_ENGINES)
RUNS = 200  # of which the median is taken
# Largest difference of an output from the CPU's, in shares of the largest value there. Half
# precision has 11 bits, and TensorFloat-32, which CUDA may take for float32, as many.
TOLERANCE = 0.02
SCORE_TOLERANCE = 0.02  # of a probability, over whole utterances
_TRTEXEC = Path("/usr/src/tensorrt/bin/trtexec")


def main() -> int:
    """Run all of it; the exit code."""
    parser = argparse.ArgumentParser(description="Prove this bundle on this board.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("clips", nargs="*", type=Path, help="audio files to judge, besides noise")
    arguments = parser.parse_args()
    try:
        bundle = load_bundle(HERE)
        clips = [read_file(path) for path in arguments.clips]
        clips += [speechlike_noise(seconds) for seconds in (1.0, 2.5, 6.0)]
        found = prove(bundle, clips)
    except EdgeError as error:
        print(f"prove: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"agreement: {'yes' if found['agrees'] else 'NO'}")
    if not found["on_gpu"]:
        print("no GPU was used: what needs one is not proven by this run")
        return 3 if found["agrees"] else 1
    return 0 if found["agrees"] else 1


def prove(bundle: Bundle, clips: list[npt.NDArray[Any]]) -> dict[str, Any]:
    """Figures of every engine that starts, and whether they agree with the CPU's."""
    found: dict[str, Any] = {"bundle": bundle.manifest.name, "graphs": {}, "streams": {}}
    engines = [CPU]
    for engine in OTHERS:
        try:
            bundle.open_graph("head", engine=engine)
        except EdgeError as error:
            print(f"{engine}: not used: {error}")
        else:
            engines.append(engine)
    agrees = True
    for role, spec in bundle.manifest.graphs.items():
        reference = bundle.open_graph(role, engine=CPU)
        inputs = example(reference)
        expected = reference(*inputs)
        rows = {}
        for engine in engines:
            graph = bundle.open_graph(role, engine=engine)
            difference = largest(expected, graph(*inputs))
            rows[engine] = {"difference": difference, "median_ms": median_ms(graph, inputs)}
            agrees &= difference <= TOLERANCE
            print(f"{role}: {engine}: {rows[engine]['median_ms']:.3f} ms, off by {difference:.2e}")
        latency = trtexec_ms(HERE / spec.file)
        if latency is not None:
            rows["trtexec"] = {"median_ms": latency}
            print(f"{role}: trtexec: {latency:.3f} ms")
        found["graphs"][role] = rows
    scores = {engine: verdicts(bundle, clips, engine) for engine in engines}
    for engine in engines:
        difference = float(np.abs(scores[engine] - scores[CPU]).max())
        same = float((scores[engine].argmax(axis=1) == scores[CPU].argmax(axis=1)).mean())
        agrees &= difference <= SCORE_TOLERANCE
        figures = measure(bundle, utterances=10, engine=engine)
        found["streams"][engine] = {
            "clips": len(clips),
            "difference": difference,
            "same_label": same,
            "bench": figures,
        }
        print(
            f"utterances: {engine}: {len(clips)} clips, same label {100 * same:.1f} %, scores off "
            f"by {difference:.4f}, final verdict {figures['final_verdict_ms']['p50']:.2f} ms"
        )
    return {**found, "agrees": bool(agrees), "on_gpu": len(engines) > 1}


def example(graph: Graph) -> list[npt.NDArray[np.float32]]:
    """Inputs of the same values each time: normal, but what is masked by nothing."""
    rng = np.random.default_rng(0)
    return [
        np.zeros(spec.shape, np.float32)
        if spec.name == "mask"
        else rng.standard_normal(spec.shape).astype(np.float32)
        for spec in graph.inputs
    ]


def largest(expected: list[npt.NDArray[Any]], found: list[npt.NDArray[Any]]) -> float:
    """Largest difference of any output, in shares of the largest value expected."""
    scale = max(float(np.abs(values).max()) for values in expected)
    worst = max(float(np.abs(e - f).max()) for e, f in zip(expected, found, strict=True))
    return worst / scale


def median_ms(graph: Graph, inputs: list[npt.NDArray[np.float32]]) -> float:
    """Milliseconds of a run, the median, after as many as a tenth of them."""
    times = []
    for _ in range(RUNS + RUNS // 10):
        begin = perf_counter()
        graph(*inputs)
        times.append(1000 * (perf_counter() - begin))
    return float(np.median(times[-RUNS:]))


def verdicts(bundle: Bundle, clips: list[npt.NDArray[Any]], engine: str) -> npt.NDArray[Any]:
    """Class probabilities of clips through the device's own code, (clips, classes)."""
    stream = EmotionStream(
        bundle, segment=bundle.manifest.segment.whole(), partial_seconds=0, engine=engine
    )
    words = " ".join(bundle.vocabulary()[:12])
    return np.array(
        [
            list(classify(stream, clip, said).scores.values())
            for clip in clips
            for said in ("", words)[: 2 if words else 1]
        ]
    )


def trtexec_ms(graph: Path) -> float | None:
    """Median latency on the GPU as trtexec has it, ms; None where it is not installed or fails."""
    program = shutil.which("trtexec") or (str(_TRTEXEC) if _TRTEXEC.exists() else None)
    if program is None or not graph.exists():
        return None
    said = subprocess.run(
        [program, "--help"], capture_output=True, encoding="utf-8", check=False
    ).stdout
    types = ["--stronglyTyped"] if "--stronglyTyped" in said else ["--fp16", "--int8"]
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run(
            [program, f"--onnx={graph}", f"--saveEngine={work}/engine", *types],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
    found = re.search(r"GPU Compute Time: .*?median = ([\d.]+) ms", done.stdout)
    if done.returncode or found is None:
        print(f"trtexec failed on {graph.name}: {' '.join(done.stderr.split())[-300:]}")
        return None
    return float(found[1])


if __name__ == "__main__":
    sys.exit(main())
