"""An int8 bundle as a C99 library: the hand-written sources, and the tables of this bundle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from math import log2
from pathlib import Path

from conversion.c99.features import Features, features_of
from conversion.c99.head import head_of_sound
from conversion.c99.program import ALIGNMENT, Product, Program, read_program
from conversion.c99.text import comment, string, structure, table
from conversion.c99.verdict import Standard, exponentials, standard_of, threshold
from conversion.errors import ConversionError
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import AUDIO_ENCODER, HEAD, AudioPart

SOURCES = Path(__file__).parent / "sources"
MODEL = "edge_emotion_model"
MOST_STEPS = 1 << 19  # that statistics are exact of: hours
_STATISTICS = 3


@dataclass(frozen=True, eq=False)
class Library:
    """What is written of a bundle."""

    bundle: Bundle
    part: AudioPart
    encoder: Program
    head: Program
    features: Features
    standard: Standard

    @property
    def head_offset(self) -> int:
        """Bytes of the arena before what the head uses: what the encoder hands on to its next run.

        The head may run between two runs of the encoder.
        """
        ends = [self.encoder.offsets[k.buffer] + k.size + k.shift for k in self.encoder.kept]
        return -(-max(ends, default=0) // ALIGNMENT) * ALIGNMENT

    @property
    def arena(self) -> int:
        """Bytes that encoder and head share."""
        return max(self.encoder.arena, self.head_offset + self.head.arena)

    @property
    def channels(self) -> int:
        """Maps of all scales."""
        return len(self.part.kernels) * self.bundle.manifest.filters

    @cached_property
    def table_bytes(self) -> dict[str, int]:
        """Bytes of the constants by what they are of."""
        features = self.features
        front = (features.window, features.sine, features.logarithm, features.cepstral)
        layers = {"encoder": self.encoder, "head": self.head}
        return {
            "front end": sum(4 * array.size for array in front)
            + 2 * (features.edges.size + features.rising.size)
            + 12 * features.gain.size,
            **{name: sum(map(_constant_bytes, p.products)) for name, p in layers.items()},
            "statistics and scores": 8 * self.standard.gain.size + 4 * 256,
        }


def read_library(bundle: Bundle) -> Library:
    """The audio branch of `bundle`, an int8 one.

    Raises ConversionError for a bundle that hears nothing, one of float graphs, and a graph with an
    operation that the library lacks. It is calibrated without how familiar a sound is, which the
    library does not measure.
    """
    bundle = bundle.plain()
    manifest = bundle.manifest
    if manifest.audio is None:
        raise ConversionError(
            f"bundle {bundle.source}: its model hears nothing, and the C99 library is of the audio "
            "branch"
        )
    for role in (AUDIO_ENCODER, HEAD):
        spec = manifest.graphs[role]
        if not spec.file.endswith(".tflite") or spec.inputs[0].dtype != "int8":
            raise ConversionError(
                f"bundle {bundle.source}: {spec.file} is no int8 TFLite graph, of which the C99 "
                "library is made: python -m conversion build RUN --out BUNDLE makes them"
            )
    graph = manifest.graphs[AUDIO_ENCODER]
    width = _STATISTICS * len(manifest.audio.kernels) * manifest.filters
    encoder = read_program(
        bundle.contents[AUDIO_ENCODER], AUDIO_ENCODER, advance=manifest.audio.chunk_frames
    )
    return Library(
        bundle=bundle,
        part=manifest.audio,
        encoder=encoder,
        head=read_program(head_of_sound(bundle.contents[HEAD], width), HEAD, inside=True),
        features=features_of(manifest.mfcc, manifest.audio, graph.inputs[0]),
        standard=standard_of(manifest, graph.outputs),
    )


def write_library(library: Library, out: Path) -> None:
    """Write the sources and tables into the folder `out`."""
    for path in sorted(SOURCES.iterdir()):
        shutil.copyfile(path, out / path.name)
    (out / f"{MODEL}.h").write_text(_header(library), encoding="utf-8")
    (out / f"{MODEL}.c").write_text(_tables(library), encoding="utf-8")


def _header(library: Library) -> str:
    manifest, features, part = library.bundle.manifest, library.features, library.part
    params, frames = features.params, manifest.graphs[AUDIO_ENCODER].inputs[0]
    (logits,) = library.head.outputs.values()
    sizes = {
        "LABELS": len(manifest.labels),
        "SAMPLE_RATE": params.sample_rate,
        "WINDOW": params.window,
        "HOP": params.hop,
        "FFT": params.fft,
        "FFT_BITS": round(log2(params.fft)),
        "MELS": params.mels,
        "CEPSTRA": params.cepstra,
        "FEATURES": params.features,
        "PREEMPHASIS": features.preemphasis,
        "FLOOR": f"({features.floor})",
        "CEPSTRAL_BITS": features.cepstral_bits,
        "FEATURE_BITS": features.feature_bits,
        "GAIN_BITS": features.gain_bits,
        "FRAMES": part.chunk_frames + 2 * part.context_frames,
        "CHUNK": part.chunk_frames,
        "CONTEXT": part.context_frames,
        "STRIDE": part.stride,
        "SILENCE": f"({frames.zero_point})",
        "SCALES": len(part.kernels),
        "FILTERS": manifest.filters,
        "CHANNELS": library.channels,
        "MOST_STEPS": MOST_STEPS,
        "MOST_FILTERS": max(len(p.weights) for p in library.encoder.products),
        "ENCODER_LAYERS": len(library.encoder.products),
        "HEAD_LAYERS": len(library.head.products),
        "ARENA": library.arena,
        "KEPT": max(1, len(library.encoder.kept)),
        "HEAD": library.head_offset,
        "POOLED": library.head_offset + library.head.address(library.head.input),
        "LOGITS": library.head_offset + library.head.address(logits),
        "STANDARD_BITS": library.standard.gain_bits,
        "THRESHOLD": f"{threshold(manifest)!r}F",
    }
    lines = [f"#define ES_{name} {value}" for name, value in sizes.items()]
    return (
        comment(_described(library))
        + "#ifndef EDGE_EMOTION_MODEL_H\n#define EDGE_EMOTION_MODEL_H\n\n"
        + "\n".join(lines)
        + "\n\n#endif\n"
    )


def _described(library: Library) -> list[str]:
    """What the library is of: quantization, shapes, memory, operations."""
    manifest = library.bundle.manifest
    lines = [
        f"Made by python -m conversion build --target microcontroller of bundle {manifest.name!r}",
        f"(edge-emotion {manifest.versions.get('edge-emotion', 'unknown')}); not to be edited.",
        "",
    ]
    for role in (AUDIO_ENCODER, HEAD):
        spec = manifest.graphs[role]
        lines.append(f"{role}: {spec.file}, sha256 {spec.sha256}")
        for what, tensors in (("in", spec.inputs), ("out", spec.outputs)):
            for t in tensors:
                shape = " x ".join(map(str, t.shape))
                lines.append(
                    f"  {what} {t.name}: int8 {shape}, {t.scale!r} a step from {t.zero_point}"
                )
    lines += [
        f"Of the head's input, the first {library.standard.gain.size} values are computed: the "
        "others are",
        "zero without words, and add nothing; what reads them alone is in a bias.",
        "",
        "operations (rows x filters of taps x bytes, MACs):",
    ]
    for role, program in ((AUDIO_ENCODER, library.encoder), (HEAD, library.head)):
        for p in program.products:
            form = f"{p.fresh} x {len(p.weights)} of {p.taps} x {p.length}, {p.macs:,}"
            lines.append(f"  {role} {p.operation} {p.name}: {form}")
    lines += ["", "constants, bytes:"]
    lines += [f"  {name}: {size:,}" for name, size in library.table_bytes.items()]
    lines.append(f"arena of encoder and head, bytes: {library.arena:,} (in es_state)")
    return lines


def _tables(library: Library) -> str:
    manifest, features, standard = library.bundle.manifest, library.features, library.standard
    parts = [
        comment([f"Tables of bundle {manifest.name!r}: see {MODEL}.h."]),
        '#include "edge_emotion_parts.h"\n',
        "const char *const es_labels[ES_LABELS] = {"
        + ", ".join(map(string, manifest.labels))
        + "};\n",
        table("int32_t", "es_window", features.window),
        table("int32_t", "es_sine", features.sine),
        table("uint16_t", "es_edges", features.edges),
        table("uint16_t", "es_rising", features.rising),
        table("int32_t", "es_logarithm", features.logarithm),
        table("int32_t", "es_cepstral", features.cepstral),
        table("int32_t", "es_gain", features.gain),
        table("int64_t", "es_offset", features.offset),
        *_layers(library.encoder, "es_encoder"),
        *_layers(library.head, "es_head"),
        structure(
            "es_maps",
            "es_scales",
            [
                [
                    ("offset", library.encoder.address(view)),
                    ("stride", view.stride),
                    ("zero", spec.zero_point),
                ]
                for spec in manifest.graphs[AUDIO_ENCODER].outputs
                for view in [library.encoder.outputs[spec.name]]
            ],
        ),
        structure(
            "es_rows",
            "es_kept",
            [
                [
                    ("offset", library.encoder.offsets[kept.buffer]),
                    ("shift", kept.shift),
                    ("size", kept.size),
                ]
                for kept in library.encoder.kept
            ]
            or [[("size", 0)]],
        ),
        table("int32_t", "es_standard_gain", standard.gain),
        table("int32_t", "es_standard_offset", standard.offset),
        table("int64_t", "es_epsilon", standard.epsilon),
        table("uint32_t", "es_exponential", exponentials(manifest)),
    ]
    return "\n".join(parts)


def _layers(program: Program, name: str) -> list[str]:
    parts, rows = [], []
    for index, product in enumerate(program.products):
        own = f"{name}_{index}"
        parts += [
            f"/* {string(product.name)[1:-1].replace('*/', '* /')} */",
            table("int8_t", f"{own}_weights", product.weights.reshape(-1), own=True),
            table("int32_t", f"{own}_bias", product.bias, own=True),
            table("int32_t", f"{own}_multiplier", product.multiplier, own=True),
            table("int8_t", f"{own}_shift", product.shift, own=True),
        ]
        rows.append(
            [
                *(
                    (field, f"{own}_{field}")
                    for field in ("weights", "bias", "multiplier", "shift")
                ),
                ("source", program.address(product.source)),
                ("target", program.address(product.target)),
                ("from_input", int(product.source.buffer not in program.offsets)),
                ("rows", product.rows),
                ("fresh", product.fresh),
                ("step", product.step),
                ("taps", product.taps),
                ("tap_step", product.tap_step),
                ("length", product.length),
                ("filters", len(product.weights)),
                ("stride", product.target.stride),
                ("zero", product.zero),
                ("low", product.low),
            ]
        )
    return [*parts, structure("es_layer", name, rows)]


def _constant_bytes(product: Product) -> int:
    return product.weights.size + 9 * len(product.weights)
