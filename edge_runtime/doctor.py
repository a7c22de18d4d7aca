"""What this device has, what works, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime import __version__
from edge_runtime.bundle import load_bundle
from edge_runtime.errors import EdgeError
from edge_runtime.graph import (
    ENGINE_TEXTS,
    TFLITE_ENGINES,
    available_engines,
    engine_version,
)
from edge_runtime.manifest import KEYWORDS
from edge_runtime.signature import Trust
from edge_runtime.stream import EmotionStream, classify
from edge_runtime.text.engines import engines

# Instructions that decide how fast int8 runs, as /proc/cpuinfo names them, and what they are.
CPU_FEATURES = {
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "amx_int8": "AMX int8",
    "asimd": "NEON",
    "asimddp": "NEON dot product",
    "i8mm": "int8 matrix multiply",
}
OPTIONAL = (
    ("audio files", ("soundfile", "soxr"), "files"),
    ("terminal view", ("rich",), "view"),
)
# What brings words that somebody else hears: `edge-emotion run --text`.
GIVEN = ("mqtt://", "paho-mqtt", "mqtt")


@dataclass
class Report:
    """Lines to print, and whether the device can run."""

    lines: list[str] = field(default_factory=list)
    works: bool = True

    def note(self, good: bool | None, what: str, finding: str) -> None:
        """One line; `good` None marks something optional that is missing."""
        mark = {True: "ok", False: "FAULT", None: "-"}[good]
        self.lines.append(f"{mark:<6}{what:<15} {finding}")
        self.works = self.works and good is not False


def examine(bundle: str, trust: Trust | None = None) -> Report:
    """Look at interpreter, packages, CPU and bundle, and classify a second of noise.

    `trust` is who must have signed the bundle.
    """
    report = Report()
    report.note(True, "edge-emotion", __version__)
    report.note(
        True,
        "system",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores",
    )
    report.note(True, "CPU", _cpu())
    interpreters = available_engines()
    for name in interpreters:
        report.note(True, "interpreter", f"{ENGINE_TEXTS[name]} {engine_version(name) or '?'}")
    if not set(interpreters) & set(TFLITE_ENGINES) and not _is_onnx(bundle, trust):
        report.note(False, "interpreter", "none for TFLite: pip install ai-edge-litert")
    report.note(True, "numpy", _version("numpy") or "?")
    for what, packages, extra in OPTIONAL:
        missing = [p for p in packages if _version(p) is None]
        if missing:
            command = f"pip install 'edge-emotion[{extra}]'"
            report.note(None, what, f"{' and '.join(missing)} not installed: {command}")
        else:
            report.note(True, what, ", ".join(f"{p} {_version(p)}" for p in packages))
    works, finding = microphone_state()
    report.note(works or None, "microphone", finding)
    for engine in engines().values():
        bring = f"; bring {engine.model}" if engine.model else ""
        _optional(report, ", ".join(engine.forms), engine.distribution, engine.extra, bring)
    _optional(report, *GIVEN)
    _examine_bundle(report, bundle, trust)
    return report


def _optional(report: Report, what: str, package: str, extra: str, further: str = "") -> None:
    version = _version(package)
    if version is None:
        command = f"pip install 'edge-emotion[{extra}]'"
        report.note(None, what, f"{package} not installed: {command}")
    else:
        report.note(True, what, f"{package} {version}{further}")


def microphone_state() -> tuple[bool, str]:
    """Whether there is a microphone to listen to; which, or what to do."""
    from edge_runtime.audio import pulse
    from edge_runtime.audio.channels import can_resample
    from edge_runtime.audio.microphone import list_microphones

    try:
        devices = list_microphones()
    except EdgeError as error:
        return False, str(error)
    if not devices:
        return False, "none found: is one plugged in, and is the user in group audio?"
    chosen = [device for device in devices if device.default]
    if not chosen:
        return False, "none is the default; choose one: edge-emotion devices"
    others = f", and {len(devices) - 1} more" if len(devices) > 1 else ""
    found = [f"{chosen[0]}{others}"]
    source = pulse.source_named(chosen[0].name)
    if source is not None and (trouble := pulse.trouble(source)):
        found.append(trouble)
    if not can_resample():
        found.append(
            "asked for 16 kHz, which many refuse, for soxr is not installed: "
            "pip install 'edge-emotion[mic]'"
        )
    return True, "; ".join(found)


def _is_onnx(name: str, trust: Trust | None) -> bool:
    """Whether a bundle needs no interpreter for TFLite."""
    try:
        graphs = load_bundle(name, trust).manifest.graphs.values()
    except EdgeError:  # it is told where the bundle is examined
        return False
    return all(spec.file.endswith(".onnx") for spec in graphs)


def _examine_bundle(report: Report, name: str, trust: Trust | None) -> None:
    import numpy as np

    try:
        bundle = load_bundle(name, trust)
        stream = EmotionStream(bundle, segment=bundle.manifest.segment.whole())
        noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
        event = classify(stream, noise)
    except EdgeError as error:
        report.note(False, "bundle", str(error))
        return
    manifest = bundle.manifest
    report.note(
        True,
        "bundle",
        f"{manifest.name}: {manifest.variant} model for {manifest.target}, "
        f"{', '.join(manifest.labels)}, {bundle.file_bytes() / 1e6:.2f} MB, hashes match",
    )
    engine = ENGINE_TEXTS[stream.recognizer.engine]
    alone = (
        "" if stream.bundle is bundle else ", its model alone: the encoder beside it needs LiteRT"
    )
    report.note(True, "runs in", f"{engine}{alone}")
    listed = "with key phrases" if KEYWORDS in bundle.contents else "without key phrases"
    if manifest.text:
        report.note(True, "words", f"the model reads them: run --text; {listed}")
    elif manifest.reads:
        report.note(True, "words", "its key phrases count in the verdict: run --text keywords")
    else:
        report.note(None, "words", f"it judges sound alone, and only shows them; {listed}")
    report.note(
        True,
        "test run",
        f"one second of noise: verdict {event.latency_ms['total']:.1f} ms after its last sample",
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in values.items()}
    flags = (values.get("flags") or values.get("Features") or "").split()
    supported = [text for flag, text in CPU_FEATURES.items() if flag in flags]
    name = values.get("model name") or values.get("Model") or platform.machine()
    return f"{name}; int8 instructions: {', '.join(supported) or 'none known'}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
