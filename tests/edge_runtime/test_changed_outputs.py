"""A mistake in the settings of an output, by SIGHUP: it is told, and the output goes on."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

from edge_runtime.bundle import Bundle
from edge_runtime.commands.run import SECTIONS, parts
from edge_runtime.commands.settings import RunSettings
from edge_runtime.events import SourceEvent
from edge_runtime.sinks import Outputs
from edge_runtime.sinks.file import FileSettings
from edge_runtime.sinks.keep import KeepSettings
from edge_runtime.sinks.mqtt import MqttSettings
from edge_runtime.sinks.prometheus import PrometheusSettings
from edge_runtime.sinks.reactions import ReactionSettings
from edge_runtime.sinks.socket import SocketSettings
from edge_runtime.web import WebSettings

Case = tuple[Any, Any, str]
"""Settings that work, some that do not, and what is said of these."""


def cases(folder: Path, free: int, taken: int) -> dict[str, Case]:
    """By section."""
    (folder / "file").touch()
    nowhere = folder / "file" / "within"
    broker = MqttSettings(broker=f"mqtt://127.0.0.1:{free}", buffer=folder / "buffer")
    return {
        "file": (FileSettings(folder / "kept.jsonl"), FileSettings(nowhere), "cannot keep events"),
        "keep": (KeepSettings(folder / "sound"), KeepSettings(nowhere), "Not a directory"),
        "socket": (SocketSettings(folder / "s"), SocketSettings(nowhere), "cannot serve events"),
        "on": (
            ReactionSettings((("angry", "true"),)),
            ReactionSettings((("furious", "true"),)),
            "this bundle has no 'furious'",
        ),
        "mqtt": (broker, replace(broker, broker="mqtt://host:port"), "expected mqtt://HOST"),
        "web": (WebSettings(on=True, port=free), WebSettings(on=True, port=taken), "is taken"),
        "prometheus": (
            PrometheusSettings(free),
            PrometheusSettings(taken),
            "cannot serve figures",
        ),
    }


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Callable[[str], Case]]:
    """The case of a section; a port is taken for as long as that."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield lambda section: cases(tmp_path, free_port(), other.getsockname()[1])[section]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_mistake_leaves_the_output_as_it_was(
    section: str, bundle: Bundle, case: Callable[[str], Case]
) -> None:
    works, mistake, told = case(section)
    settings = replace(RunSettings(out="none"), **{section: works})
    with closing(Outputs(parts(settings, bundle))) as outputs:
        (before,) = outputs.sinks
        (line,) = outputs.change(parts(replace(settings, **{section: mistake}), bundle))
        assert line.startswith(f"{section}: ")
        assert told in line
        (after,) = outputs.sinks
        assert type(after) is type(before)
        outputs.write(SourceEvent(0.0, "mic"))
        assert outputs.change(parts(settings, bundle)) == []
        assert outputs.sinks == [after]
