"""Arm Ethos-U NPUs: the int8 graphs through Arm's compiler Vela, every operator on the NPU."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from conversion.errors import ConversionError, MissingToolError
from conversion.targets import DerivedTarget, step_graphs
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import AUDIO_ENCODER

_CONFIGURATIONS = "Arm/vela.ini"  # in Vela's own package
_KIB = 1024
_REFUSED = re.compile(
    r"operator: (?P<operation>\S+), ofm: '(?P<layer>[^']*)'\s*Reason: (?P<reason>[^\n]+)"
)
_COUNTS = re.compile(r"^(?P<where>CPU|NPU) operators = (?P<count>\d+)", re.M)


@dataclass(frozen=True)
class Accelerator:
    """An NPU, and the system that Vela supposes around it."""

    name: str
    """Family and multiplications a cycle, as Vela has them."""
    system: str
    """Clock and memories, a section of `Arm/vela.ini`."""
    memory: str
    """Where weights and feature maps are, another section."""


ACCELERATORS = (
    Accelerator("ethos-u55-256", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
    Accelerator("ethos-u65-512", "Ethos_U65_High_End", "Dedicated_Sram"),
    Accelerator("ethos-u85-256", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram"),
)


@dataclass(frozen=True)
class Estimate:
    """What Vela estimates of one graph on one NPU; nothing of it was measured."""

    graph: str
    """Role of the graph in the bundle."""
    npu_operators: int
    """Operators that run on the NPU, after Vela has taken them apart."""
    cpu_operators: int
    """Operators that are left to the processor: 0, or the build fails."""
    cycles: int
    """Cycles of the NPU's clock for a run, with its waiting for memory."""
    runs_per_second: float
    """Runs a second at that clock."""
    clock_mhz: int
    """The clock, MHz."""
    sram_bytes: int
    """Bytes of SRAM for feature maps and what is staged."""
    weight_bytes: int
    """Bytes of encoded weights, in flash or DRAM."""
    file_bytes: int
    """Bytes of the compiled graph."""


class EthosU(DerivedTarget):
    """Every step graph for one NPU of each family, with a report of what Vela estimates."""

    name = "ethos-u"

    def ready(self) -> Mapping[str, str]:
        """See DerivedTarget."""
        if importlib.util.find_spec("ethosu") is None:
            raise MissingToolError(
                self.name,
                "Arm's compiler Vela",
                "pip install -e '.[ethos-u]' in a checkout, on a workstation",
            )
        return {"ethos-u-vela": importlib.metadata.version("ethos-u-vela")}

    def check(self, graph: Path) -> None:
        """Raise ConversionError for an operation that the smallest NPU here leaves to the CPU."""
        with tempfile.TemporaryDirectory() as work:
            _compile(graph, ACCELERATORS[0], Path(work))

    def derive(self, bundle: Bundle, out: Path) -> None:
        """See DerivedTarget: NPU/GRAPH_vela.tflite, report.json, REPORT.md."""
        report: dict[str, list[Estimate]] = {}
        with tempfile.TemporaryDirectory() as work:
            graphs = step_graphs(bundle, Path(work))
            for accelerator in ACCELERATORS:
                folder = out / accelerator.name
                folder.mkdir()
                report[accelerator.name] = [
                    _compile(path, accelerator, folder) for path in graphs.values()
                ]
        raw = {
            "tool": dict(self.ready()),
            "accelerators": [
                asdict(accelerator)
                | {"graphs": [asdict(estimate) for estimate in report[accelerator.name]]}
                for accelerator in ACCELERATORS
            ],
        }
        (out / "report.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
        (out / "REPORT.md").write_text(_markdown(bundle, report), encoding="utf-8")


def _compile(graph: Path, accelerator: Accelerator, out: Path) -> Estimate:
    """Compile one graph into the folder `out`. Raises ConversionError as `EthosU.check`."""
    with tempfile.TemporaryDirectory() as work:
        command = [
            *(sys.executable, "-m", "ethosu.vela", str(graph)),
            *("--accelerator-config", accelerator.name),
            *("--config", _CONFIGURATIONS),
            *("--system-config", accelerator.system),
            *("--memory-mode", accelerator.memory),
            *("--output-dir", work, "--show-cpu-operations"),
        ]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        made = Path(work) / f"{graph.stem}_vela.tflite"
        summaries = sorted(Path(work).glob(f"{graph.stem}_summary_*.csv"))
        counts = {found["where"]: int(found["count"]) for found in _COUNTS.finditer(done.stdout)}
        if done.returncode or not made.exists() or len(summaries) != 1 or len(counts) != 2:
            said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            raise ConversionError(
                f"vela failed on {graph.name} for {accelerator.name}: {' | '.join(said[-2:])}"
            )
        if counts["CPU"]:
            refused = _REFUSED.search(done.stdout + done.stderr)
            raise ConversionError(
                f"{graph.name}: {accelerator.name} does not take "
                + (
                    "{operation} of layer {layer}: {reason}".format(**refused.groupdict())
                    if refused
                    else "all of its operations"
                )
                + f"; {counts['CPU']} of {sum(counts.values())} operators would run on the "
                "processor"
            )
        (row,) = csv.DictReader(summaries[0].read_text(encoding="utf-8").splitlines())
        content = made.read_bytes()
    (out / made.name).write_bytes(content)
    return Estimate(
        graph=graph.stem,
        npu_operators=counts["NPU"],
        cpu_operators=counts["CPU"],
        cycles=int(float(row["cycles_total"])),
        runs_per_second=round(float(row["inferences_per_second"]), 1),
        clock_mhz=round(float(row["core_clock"]) / 1e6),
        sram_bytes=round(_KIB * float(row["sram_memory_used"])),
        weight_bytes=int(float(row["total_npu_encoded_weights"])),
        file_bytes=len(content),
    )


def _markdown(bundle: Bundle, report: Mapping[str, list[Estimate]]) -> str:
    """The report as text, with what a second of audio costs."""
    lines = [
        "# Ethos-U: what Vela estimates",
        "",
        f"Bundle {bundle.manifest.name}, int8. No operator is left to the processor. Cycles are "
        "Vela's estimate for the",
        "clock and memories named; nothing here was measured on a chip.",
    ]
    audio = bundle.manifest.audio
    for accelerator in ACCELERATORS:
        estimates = report[accelerator.name]
        lines += [
            "",
            f"## {accelerator.name}: {accelerator.system}, {accelerator.memory}, "
            f"{estimates[0].clock_mhz} MHz",
            "",
            "| graph | operators on the NPU | on the CPU | cycles a run | runs a second | "
            "SRAM, KiB | weights, KiB |",
            "|---|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {e.graph} | {e.npu_operators} | {e.cpu_operators} | {e.cycles:,} | "
            f"{e.runs_per_second:,.0f} | {e.sram_bytes / _KIB:.1f} | {e.weight_bytes / _KIB:,.0f} |"
            for e in estimates
        ]
        heard = [e for e in estimates if e.graph == AUDIO_ENCODER]
        if heard and audio:
            mfcc = bundle.manifest.mfcc
            steps = mfcc.sample_rate / (mfcc.hop * audio.chunk_frames)
            share = 100 * steps / heard[0].runs_per_second
            lines += [
                "",
                f"A second of speech is {steps:.1f} runs of {AUDIO_ENCODER}: {share:.2g} % of the "
                "NPU's time.",
            ]
    return "\n".join(lines) + "\n"
