"""C99 source as text: tables, numbers and names."""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import wrap
from typing import Any

import numpy as np
import numpy.typing as npt

_WIDTH = 100
_SUFFIX = {"uint32_t": "U", "int64_t": "LL", "float": "F"}
_LOWEST = {"int32_t": -(2**31), "int64_t": -(2**63)}


def table(kind: str, name: str, values: npt.ArrayLike, own: bool = False) -> str:
    """A constant array of `kind`, such as int8_t; `own` to its file."""
    array = np.asarray(values)
    form = "".join(f"[{n}]" for n in array.shape)
    body = "\n".join(wrap(_row(kind, array), _WIDTH, break_on_hyphens=False))
    return f"{'static ' if own else ''}const {kind} {name}{form} =\n{body};\n"


def structure(kind: str, name: str, rows: Iterable[Iterable[tuple[str, Any]]]) -> str:
    """A constant array of structures, from the fields of each."""
    lines = [
        "    {" + ", ".join(f".{field} = {value}" for field, value in row) + "}," for row in rows
    ]
    wrapped = [wrap(line, _WIDTH, subsequent_indent="     ") for line in lines]
    body = "\n".join(
        "    " + part.lstrip() if i == 0 else part for w in wrapped for i, part in enumerate(w)
    )
    return f"const {kind} {name}[{len(lines)}] = {{\n{body}\n}};\n"


def string(text: str) -> str:
    """A string of C; what is beyond printable ASCII is escaped as its UTF-8."""
    return '"' + "".join(_character(byte) for byte in text.encode()) + '"'


def comment(lines: Iterable[str]) -> str:
    """A comment of these lines."""
    body = "\n".join(f" * {line}".rstrip() for line in lines)
    return "/*" + body[2:].replace("*/", "* /") + "\n */\n"


def _row(kind: str, array: npt.NDArray[Any]) -> str:
    if array.ndim > 1:
        return "{" + ", ".join(_row(kind, part) for part in array) + "}"
    suffix, lowest = _SUFFIX.get(kind, ""), _LOWEST.get(kind)
    # A literal of the lowest value would be the negative of one that is beyond the type.
    numbers = (
        f"(-{-(value + 1)}{suffix} - 1)" if value == lowest else f"{value}{suffix}"
        for value in array.tolist()
    )
    return "{" + ", ".join(numbers) + "}"


def _character(byte: int) -> str:
    if byte in b'"\\':
        return "\\" + chr(byte)
    # Octal: a hexadecimal escape would go on into the digits behind it. A question mark may begin
    # a trigraph.
    return chr(byte) if 32 <= byte < 127 and byte != ord("?") else f"\\{byte:03o}"
