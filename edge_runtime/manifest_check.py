"""Whether a bundle's graphs have the shapes that its manifest promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import BundleError
from edge_runtime.graph import TensorSpec
from edge_runtime.manifest import (
    ATTENTION,
    AUDIO_ENCODER,
    HEAD,
    MANIFEST,
    PRETRAINED,
    STATISTICS,
    TEXT,
    TEXT_ENCODER,
    WHOLE,
    WINDOW_FRAMES,
    Calibration,
    Manifest,
    TextPart,
)
from edge_runtime.pcm import SAMPLE_RATE
from edge_runtime.pretrained_arrays import MELS, STRIDE
from edge_runtime.untrusted import shown

_MOST = 1000.0  # factors beyond it cannot be meant
_LEAST_STEP, _MOST_STEP = 1e-9, 1e6  # of a tensor's scale, and the least standard deviation
_TYPES = ("float32", "int8", "int16", "uint8")
_ROLES = (AUDIO_ENCODER, TEXT_ENCODER, ATTENTION, HEAD, PRETRAINED, WHOLE)
_MOST_CLASSES, _LONGEST_LABEL = 1000, 64


def _check_shapes(manifest: Manifest, path: Path) -> None:
    """Hold the parts of a manifest against each other."""
    _check_names(manifest, path)
    _check_tensors(manifest, path)
    if manifest.mfcc.sample_rate != SAMPLE_RATE:
        raise BundleError(
            f"bundle {path}: sample_rate {manifest.mfcc.sample_rate} is not the {SAMPLE_RATE} Hz "
            "that this version hears"
        )
    parts = (manifest.audio, AUDIO_ENCODER), (manifest.text, TEXT_ENCODER)
    wanted = [role for part, role in (*parts, (manifest.attention, ATTENTION)) if part]
    for name, kernels in (
        (name, part.kernels)
        for name, part in (("audio", manifest.audio), ("text", manifest.text))
        if part
    ):
        if not kernels or min(kernels) < 1:
            raise BundleError(f"bundle {path}: {name} kernels {kernels} are not lengths")
    if not manifest.modalities:
        raise BundleError(f"bundle {path}: {MANIFEST} describes neither an audio nor a text model")
    if manifest.audio and (
        manifest.audio.stride < 1 or manifest.audio.chunk_frames % manifest.audio.stride
    ):
        raise BundleError(
            f"bundle {path}: chunk_frames {manifest.audio.chunk_frames} is not a multiple of "
            f"stride {manifest.audio.stride}"
        )
    if manifest.audio and not 1 <= manifest.audio.phases <= manifest.audio.stride:
        raise BundleError(
            f"bundle {path}: {manifest.audio.phases} phases, of which there are as many as the "
            f"stride {manifest.audio.stride} at most"
        )
    if manifest.attention and (not manifest.audio or not manifest.text):
        raise BundleError(f"bundle {path}: attention needs an audio and a text model")
    if manifest.pretrained:
        wanted.append(PRETRAINED)
    for role in (*wanted, HEAD):
        if role not in manifest.graphs:
            raise BundleError(f"bundle {path}: {MANIFEST} lacks the {role} graph")
    head, width = manifest.graphs[HEAD], sum(manifest.branches.values())
    expectations: list[tuple[str, Any, Any]] = [
        ("pooled_mean", (width,), manifest.pooled_mean.shape),
        ("pooled_std", (width,), manifest.pooled_std.shape),
        (f"{head.file} input", [(1, width)], _shapes(head.inputs)),
        (f"{head.file} output", [(1, len(manifest.labels))], _shapes(head.outputs)),
        *_expected_of_audio(manifest),
        *_expected_of_text(manifest),
        *_expected_of_whole(manifest),
        *_expected_of_pretrained(manifest),
    ]
    for what, expected, found in expectations:
        if expected != found:
            raise BundleError(f"bundle {path}: {what} has shape {found}, expected {expected}")
    positive = {"pooled_std": manifest.pooled_std}
    if manifest.audio:
        positive["feature_std"] = manifest.audio.feature_std
    for name, values in positive.items():
        if not (values >= _LEAST_STEP).all():
            raise BundleError(f"bundle {path}: {name} must be positive, {_LEAST_STEP:g} or more")
    for modality in manifest.modalities:
        if modality not in manifest.calibration:
            raise BundleError(f"bundle {path}: {MANIFEST} lacks the calibration of {modality!r}")
    _check_calibration(manifest.calibration, path)
    _check_reference(manifest, path)
    _check_pretrained(manifest, path)
    _check_pretrained_reference(manifest, path)
    _check_familiarity(manifest, path)
    _check_dimensions(manifest, path)
    if manifest.phrases and not 0 <= manifest.phrases.limit <= _MOST:
        raise BundleError(
            f"bundle {path}: the limit of its phrases is {manifest.phrases.limit}; it must be 0 to "
            f"{_MOST:g}"
        )


def _check_names(manifest: Manifest, path: Path) -> None:
    """Refuse labels that cannot be told apart, and graphs of which nothing is known."""
    labels = manifest.labels
    named = all(label.strip() and len(label) <= _LONGEST_LABEL for label in labels)
    if not (1 <= len(set(labels)) == len(labels) <= _MOST_CLASSES and named):
        raise BundleError(
            f"bundle {path}: labels must be 1 to {_MOST_CLASSES} different words of at most "
            f"{_LONGEST_LABEL} letters"
        )
    for role in manifest.graphs:
        if role not in _ROLES:
            raise BundleError(
                f"bundle {path}: no graph has the role {shown(role)}; expected {', '.join(_ROLES)}"
            )
    if manifest.attention and manifest.attention.pairs not in ("all", "matched"):
        raise BundleError(
            f"bundle {path}: attention pairs {shown(manifest.attention.pairs)} are neither all nor "
            "matched"
        )


def _check_tensors(manifest: Manifest, path: Path) -> None:
    """Refuse steps by which no number could be meant."""
    for graph in manifest.graphs.values():
        for spec in (*graph.inputs, *graph.outputs):
            if spec.dtype not in _TYPES or not _is_step(spec.scale):
                raise BundleError(
                    f"bundle {path}: {graph.file}: {shown(spec.name)} is of type "
                    f"{shown(spec.dtype)} and scale {spec.scale}; expected {', '.join(_TYPES)}, "
                    f"and a scale of 0 or from {_LEAST_STEP:g} to {_MOST_STEP:g}"
                )
    if manifest.text and not _is_step(manifest.text.scale):
        raise BundleError(f"bundle {path}: the text scale {manifest.text.scale} cannot be meant")


def _is_step(scale: float) -> bool:
    return scale == 0 or _LEAST_STEP <= scale <= _MOST_STEP


def _check_calibration(calibration: dict[str, Calibration], path: Path) -> None:
    """Refuse what would make no probabilities of logits, or is no confidence."""
    for modality, chosen in calibration.items():
        if not 1 / _MOST <= chosen.temperature <= _MOST:
            raise BundleError(
                f"bundle {path}: the calibration temperature of {modality!r} is "
                f"{chosen.temperature}; it must be finite and positive, {1 / _MOST:g} to {_MOST:g}"
            )
        if not 0 <= chosen.threshold <= 1:
            raise BundleError(
                f"bundle {path}: the calibration threshold of {modality!r} is {chosen.threshold}; "
                "a confidence is from 0 to 1"
            )


def _check_reference(manifest: Manifest, path: Path) -> None:
    """Refuse numbers by which nothing could be adapted to a speaker."""
    part = manifest.reference
    if part is None:
        return
    if manifest.audio is None:
        raise BundleError(f"bundle {path}: a reference of voices needs an audio model")
    bounds = {
        "limit": 0 < part.limit <= _MOST,
        "keep": 0 < part.keep <= 1,
        "change": 0 < part.change < 1,
        "trust": 0 <= part.trust <= _MOST,
        "strength": 0 <= part.strength <= _MOST,
    }
    _check_bounds("reference", part, bounds, path)
    _check_temperatures("reference", part.temperature, path)


def _check_bounds(name: str, part: object, bounds: dict[str, bool], path: Path) -> None:
    """Refuse the first field of a part whose bounds do not hold."""
    for field, holds in bounds.items():
        if not holds:
            raise BundleError(f"bundle {path}: {name} {field} {getattr(part, field)} is no such")


def _check_temperatures(name: str, temperatures: dict[str, float], path: Path) -> None:
    for modality, temperature in temperatures.items():
        if not 1 / _MOST <= temperature <= _MOST:
            raise BundleError(
                f"bundle {path}: the {name} temperature of {modality!r} is {temperature}; it "
                f"must be {1 / _MOST:g} to {_MOST:g}"
            )


def _check_pretrained(manifest: Manifest, path: Path) -> None:
    """Refuse numbers by which a pre-trained encoder could not be joined."""
    part = manifest.pretrained
    if part is None:
        return
    if manifest.audio is None:
        raise BundleError(f"bundle {path}: a pre-trained encoder of sound needs an audio model")
    for modality in manifest.modalities:
        if modality == TEXT:
            continue
        for name, values, least in (
            ("strength", part.strength, 0.0),
            ("temperature", part.temperature, 1 / _MOST),
        ):
            if not least <= values.get(modality, -1.0) <= _MOST:
                raise BundleError(
                    f"bundle {path}: the pretrained {name} of {modality!r} is "
                    f"{values.get(modality)}; it must be {least:g} to {_MOST:g}"
                )
    bounds = {
        "usual_distance": abs(part.usual_distance) <= _MOST,
        "distance_slope": 0 <= part.distance_slope <= _MOST,
    }
    _check_bounds("pretrained", part, bounds, path)


def _check_pretrained_reference(manifest: Manifest, path: Path) -> None:
    """Refuse numbers by which what an encoder hears could not be adapted to a speaker."""
    part = manifest.pretrained_reference
    if part is None:
        return
    if manifest.pretrained is None or manifest.reference is None:
        raise BundleError(
            f"bundle {path}: a reference of what an encoder hears needs the encoder, and a "
            "reference of voices"
        )
    _check_bounds("pretrained_reference", part, {"strength": 0 <= part.strength <= _MOST}, path)
    _check_temperatures("pretrained_reference", part.temperature, path)


def _check_familiarity(manifest: Manifest, path: Path) -> None:
    """Refuse numbers by which no distance could count."""
    part = manifest.familiarity
    if part is None:
        return
    if manifest.audio is None:
        raise BundleError(f"bundle {path}: familiarity is of sounds, and needs an audio model")
    bounds = {
        "limit": 0 < part.limit <= _MOST,
        "usual": abs(part.usual) <= _MOST,
        "slope": 0 <= part.slope <= _MOST,
    }
    _check_bounds("familiarity", part, bounds, path)
    _check_calibration(part.without, path)


def _check_dimensions(manifest: Manifest, path: Path) -> None:
    """Refuse a table that lacks a class, has another, or leaves the scale."""
    part = manifest.dimensions
    for name, table in (("valence", part.valence), ("arousal", part.arousal)) if part else ():
        if set(table) != {*manifest.labels}:
            raise BundleError(f"bundle {path}: the {name} of dimensions is not of each label")
        if not all(-1 <= value <= 1 for value in table.values()):
            raise BundleError(f"bundle {path}: the {name} of dimensions is not from -1 to 1")


def _expected_of_pretrained(manifest: Manifest) -> list[tuple[str, Any, Any]]:
    if manifest.pretrained is None:
        return []
    graph, frames = manifest.graphs[PRETRAINED], manifest.pretrained.frames
    width = graph.outputs[0].shape[-1] if graph.outputs and graph.outputs[0].shape else 0
    return [
        (f"{graph.file} input", [(1, MELS, frames)], _shapes(graph.inputs)),
        (f"{graph.file} output", [(1, frames // STRIDE, width)], _shapes(graph.outputs)),
    ]


def _expected_of_audio(manifest: Manifest) -> list[tuple[str, Any, Any]]:
    audio, features = manifest.audio, manifest.mfcc.features
    if audio is None:
        return []
    encoder = manifest.graphs[AUDIO_ENCODER]
    window = audio.chunk_frames + 2 * audio.context_frames
    maps = (1, 1, audio.chunk_frames // audio.stride, manifest.filters)
    return [
        ("feature_mean", (features,), audio.feature_mean.shape),
        ("feature_std", (features,), audio.feature_std.shape),
        (f"{encoder.file} input", [(1, 1, window, features)], _shapes(encoder.inputs)),
        (f"{encoder.file} outputs", [maps] * len(audio.kernels), _shapes(encoder.outputs)),
    ]


def _expected_of_text(manifest: Manifest) -> list[tuple[str, Any, Any]]:
    text, filters = manifest.text, manifest.filters
    if text is None:
        return []
    encoder = manifest.graphs[TEXT_ENCODER]
    window, scales = text.tokens + sum(text.context), len(text.kernels)
    maps = (1, 1, text.tokens, filters)
    expected: list[tuple[str, Any, Any]] = [
        (f"{encoder.file} input", [(1, 1, window, text.width)], _shapes(encoder.inputs)),
        (f"{encoder.file} outputs", [maps] * scales, _shapes(encoder.outputs)),
        (
            f"{encoder.file} input scale",
            [(text.scale, text.zero_point)],
            [_steps(spec) for spec in encoder.inputs],
        ),
    ]
    if manifest.attention and manifest.audio:
        attention = manifest.graphs[ATTENTION]
        queries = STATISTICS * len(manifest.audio.kernels)
        inputs = [*[(1, text.tokens, filters)] * scales, (1, 1, text.tokens), (1, queries, filters)]
        outputs = [(1, manifest.queries, filters)] * scales
        expected += [
            (f"{attention.file} inputs", inputs, _shapes(attention.inputs)),
            (f"{attention.file} outputs", outputs, _shapes(attention.outputs)),
            *(
                (f"{attention.file} scale of {keys.name}", _steps(maps), _steps(keys))
                for maps, keys in zip(encoder.outputs, attention.inputs, strict=False)
            ),
        ]
    return expected


def _expected_of_whole(manifest: Manifest) -> list[tuple[str, Any, Any]]:
    if WHOLE not in manifest.graphs:
        return []
    whole, audio, text = manifest.graphs[WHOLE], manifest.audio, manifest.text
    inputs = whole_inputs(
        features=manifest.mfcc.features if audio else 0,
        stride=audio.stride if audio else 1,
        tokens=text.tokens if text else 0,
        context=sum(text.context) if text else 0,
        width=text.width if text else 0,
        speaker=manifest.speaker,
        attention=manifest.attention is not None,
    )
    found = {spec.name: spec.shape for spec in whole.inputs}
    expected: list[tuple[str, Any, Any]] = [
        (f"{whole.file} inputs", inputs, found),
        (f"{whole.file} output", [(1, len(manifest.labels))], _shapes(whole.outputs)),
    ]
    if text:
        rows = next((spec for spec in whole.inputs if spec.name == "rows"), None)
        expected.append((f"{whole.file} scale of rows", True, rows and _fits(text, rows)))
    return expected


def _fits(text: TextPart, rows: TensorSpec) -> bool:
    """Whether an input takes the rows of the table as they are."""
    close = abs(rows.scale - text.scale) <= 1e-5 * text.scale
    return close and rows.zero_point == text.zero_point


def whole_inputs(
    *,
    features: int = 0,
    stride: int = 1,
    tokens: int = 0,
    context: int = 0,
    width: int = 0,
    speaker: int = 0,
    attention: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Names, sorted, and shapes of what the whole-window graph reads.

    Parameters
    ----------
    features : width of a frame; 0 for a model that hears nothing. The graph reads normalized
        frames; which maps count; and the window over how many do.
    stride : frames from one map to the next.
    tokens : words of the window; 0 for a model that reads nothing. It reads their embedding rows,
        and the same two of words.
    context : rows beside the words.
    width : width of an embedding.
    speaker : width of the standardized speaker embedding; 0 for none.
    attention : whether it reads the mask that is added to the attention scores.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    if features:
        shapes["frames"] = (1, 1, WINDOW_FRAMES, features)
        shapes["frames_counted"] = (1, 1, -(-WINDOW_FRAMES // stride), 1)
        shapes["frames_gain"] = (1, 1, 1, 1)
    if tokens:
        shapes["rows"] = (1, 1, tokens + context, width)
        shapes["words_counted"] = (1, 1, tokens, 1)
        shapes["words_gain"] = (1, 1, 1, 1)
    if speaker:
        shapes["speaker"] = (1, speaker)
    if attention:
        shapes["words_mask"] = (1, 1, tokens)
    return dict(sorted(shapes.items()))


def _steps(spec: TensorSpec) -> tuple[float, int]:
    """Scale and zero point, the scale to float32 precision."""
    return float(np.float32(spec.scale)), spec.zero_point


def _shapes(specs: tuple[TensorSpec, ...]) -> list[tuple[int, ...]]:
    return [spec.shape for spec in specs]


def _form(spec: TensorSpec) -> tuple[Any, ...]:
    """What must agree between manifest and interpreter; scales to float32 precision."""
    return (spec.name, spec.shape, spec.dtype, float(np.float32(spec.scale)), spec.zero_point)
