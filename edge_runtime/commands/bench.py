"""`edge-emotion bench`: latency per stage on this device."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from edge_runtime.bundle import DEFAULT, load_bundle
from edge_runtime.commands.common import add_command
from edge_runtime.commands.settings import BUNDLE, effective_settings
from edge_runtime.console import OK
from edge_runtime.graph import THREADS
from edge_runtime.settings import Settings, group, setting
from edge_runtime.update.settings import TrustSettings


@dataclass(frozen=True)
class BenchSettings(Settings):
    """Options of `bench`."""

    bundle: str = setting(DEFAULT, BUNDLE)
    json: bool = setting(False, "Print JSON.")
    threads: int = setting(1, "Threads of the interpreter.", THREADS)
    trust: TrustSettings = group(TrustSettings())


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    add_command(commands, "bench", BenchSettings, bench, "latency per stage on this device")


def bench(arguments: argparse.Namespace) -> int:
    """Measure and print; the exit code."""
    from edge_runtime.bench import format_table, measure

    settings = effective_settings(BenchSettings, arguments).settings
    result = measure(load_bundle(settings.bundle, settings.trust.trust), settings.threads)
    print(json.dumps(result) if settings.json else format_table(result))
    return OK
