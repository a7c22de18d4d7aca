"""Write what the documentation derives from the code: JSON schemas, and tables between markers.

    .venv/bin/python scripts/make_schemas.py [--check]

docs/*.schema.json come from the dataclasses of events and manifest, by msgspec; the tables of
docs/events-and-bundle.md and docs/words.md from their docstrings and from the registry of engines.
With --check nothing is written: exit code 1 where a file differs.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np

from edge_runtime import events, manifest
from edge_runtime.settings import _documented
from edge_runtime.text.engines import engines

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def schema_of(kinds: list[type[Any]], title: str) -> str:
    """One JSON schema of any of `kinds`."""

    def hook(kind: type[Any]) -> dict[str, Any]:
        if kind is np.ndarray or getattr(kind, "__origin__", None) is np.ndarray:
            return {"type": "array", "items": {"type": "number"}}
        raise NotImplementedError(kind)

    schemas, components = msgspec.json.schema_components(kinds, schema_hook=hook)
    for kind in kinds:
        name = getattr(kind, "type", None)
        body = components[kind.__name__]
        if isinstance(name, str):  # events carry their type, a class variable
            body["properties"] = {"type": {"const": name}, **body["properties"]}
            body["required"] = ["type", *body.get("required", [])]
    content = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "oneOf" if len(kinds) > 1 else "allOf": list(schemas),
        "$defs": components,
    }
    return json.dumps(content, indent=1) + "\n"


def table_of(kind: type[Any]) -> str:
    """The fields of a dataclass and their docstrings, as a Markdown table."""
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base):
            told |= _documented(base)
    rows = [
        f"| `{item.name}` | {' '.join(told.get(item.name, '').split())} |" for item in fields(kind)
    ]
    return "\n".join(["| field | |", "|---|---|", *rows])


def event_tables() -> str:
    """A heading, a sentence and a table for each event."""
    parts = []
    for kind in (*get_args(events.Event), events.RevisedEvent):
        sentence = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
        parts.append(f"### `{kind.type}`\n\n{sentence}\n\n{table_of(kind)}")
    return "\n\n".join(parts)


def engine_table() -> str:
    """`--text` and what hears the words."""
    rows = ["| `--text` | what hears the words | install | here |", "|---|---|---|---|"]
    rows.append("| `off` | nothing | | |")
    for engine in engines().values():
        forms = ", ".join(f"`{form}`" for form in engine.forms)
        rows.append(f"| {forms} | {engine.hears} | `{engine.extra}` | {engine.proven} |")
    rows += [
        "| `jsonl:FILE`, `jsonl:-` | somebody else, a line a word or phrase | | run |",
        "| `mqtt://HOST[:PORT]/TOPIC` | somebody else, a message a line | `mqtt` | run against "
        "mosquitto, also through a restart |",
    ]
    return "\n".join(rows)


def between(text: str, name: str, content: str) -> str:
    """`text` with `content` between its markers of that name."""
    pattern = rf"(<!-- {name} -->\n).*?(\n<!-- end -->)"
    if not re.search(pattern, text, re.S):
        raise ValueError(f"no markers {name}")
    return re.sub(pattern, lambda m: m[1] + content + m[2], text, flags=re.S)


def made() -> dict[Path, str]:
    """Every file that is derived, with its content."""
    kinds = [*get_args(events.Event), events.RevisedEvent]
    contracts, words = DOCS / "events-and-bundle.md", DOCS / "words.md"
    told = between(contracts.read_text(encoding="utf-8"), "events", event_tables())
    told = between(told, "manifest", table_of(manifest.Manifest))
    return {
        DOCS / "events.schema.json": schema_of(kinds, "Events of a stream, one a line"),
        DOCS / "manifest.schema.json": schema_of([manifest.Manifest], "manifest.json of a bundle"),
        contracts: told,
        words: between(words.read_text(encoding="utf-8"), "engines", engine_table()),
    }


def main() -> int:
    """Write, or compare."""
    code = 0
    for path, content in made().items():
        if "--check" not in sys.argv:
            path.write_text(content, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            print(f"{path.relative_to(ROOT)} is not as the code: scripts/make_schemas.py")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
