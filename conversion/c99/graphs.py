"""A bundle's step graphs as C arrays, for TensorFlow Lite Micro's interpreter."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill, wrap

from conversion.c99.text import comment
from conversion.inspect import outline
from conversion.targets import STEP_ROLES
from edge_runtime.bundle import Bundle
from edge_runtime.manifest import TEXT_ENCODER, GraphSpec

FOLDER = "tflite-micro"
NAME = "edge_emotion_graphs"
_ALIGNMENT = 16  # that the interpreter asks of a graph
_WIDTH = 100
_OPENED = ("", "#ifdef __cplusplus", 'extern "C" {', "#endif", "")
_CLOSED = ("", "#ifdef __cplusplus", "}", "#endif", "")


def write_graphs(bundle: Bundle, out: Path) -> None:
    """Write the arrays and their header into the folder `out`.

    The header says of each graph its inputs and outputs (type, shape, scale, zero point), the
    operations that a resolver must know, and the bytes of activations. The text encoder's and the
    attention's are there as well, for who has words.
    """
    roles = [role for role in STEP_ROLES if role in bundle.manifest.graphs]
    told = [
        f"Graphs of bundle {bundle.manifest.name!r} for TensorFlow Lite Micro; not to be edited."
    ]
    declared, defined = [], []
    for role in roles:
        spec, content = bundle.manifest.graphs[role], bundle.contents[role]
        told += ["", *_described(role, spec, content)]
        size = f"ES_GRAPH_{role.upper()}_BYTES"
        array = f"const unsigned char es_graph_{role}[{size}]"
        declared += [f"#define {size} {len(content)}", f"extern {array};"]
        body = fill(", ".join(map(str, content)), _WIDTH)
        defined.append(f"ES_ALIGNED {array} = {{\n{body}\n}};\n")
    guard = f"{NAME.upper()}_H"
    header = [f"#ifndef {guard}", f"#define {guard}", *_OPENED, *declared, *_CLOSED, "#endif"]
    text = comment(told) + "\n".join(header) + "\n"
    (out / f"{NAME}.h").write_text(text, encoding="utf-8")
    aligned = f"#define ES_ALIGNED __attribute__((aligned({_ALIGNMENT})))\n"
    source = "\n".join([f'#include "{NAME}.h"\n', aligned, *defined])
    (out / f"{NAME}.c").write_text(source, encoding="utf-8")


def _described(role: str, spec: GraphSpec, content: bytes) -> list[str]:
    operations, arena = outline(content)
    lines = [f"{role}: {spec.file}, sha256 {spec.sha256}"]
    for what, tensors in (("in", spec.inputs), ("out", spec.outputs)):
        for t in tensors:
            shape = " x ".join(map(str, t.shape))
            lines.append(
                f"  {what} {t.name}: {t.dtype} {shape}, {t.scale!r} a step from {t.zero_point}"
            )
    counted = ", ".join(f"{name} ({count})" for name, count in sorted(operations.items()))
    lines += wrap(
        f"operations: {counted}", _WIDTH - 6, initial_indent="  ", subsequent_indent="    "
    )
    lines.append(f"  activations, bytes: {arena:,}; the interpreter's own records come on top")
    if role == TEXT_ENCODER:
        lines.append("  what it reads, embeddings of words, is in the bundle and not here")
    return lines
