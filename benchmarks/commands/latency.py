"""`python -m benchmarks latency`: milliseconds per stage, held against bounds."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.output import add_bundle, add_count, add_json, add_run, write_json
from edge_runtime.console import OK, OURS

if TYPE_CHECKING:
    from edge_runtime.bundle import Bundle


def add(commands: Any) -> None:
    """Add the command to the parser's."""
    command = commands.add_parser("latency", help="milliseconds per stage")
    add_bundle(command)
    add_json(command)
    add_run(command)
    command.add_argument(
        "--check", action="store_true", help="fail where a ratio or a time left its bound"
    )
    add_count(
        command,
        "--utterances",
        "utterances that are timed, for a quick look fewer than it takes by itself",
    )
    command.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from benchmarks.errors import BenchmarkError
    from edge_runtime.bench import UTTERANCES, format_table, measure
    from edge_runtime.bundle import load_bundle

    bundle = load_bundle(arguments.bundle)
    result = measure(bundle, utterances=arguments.utterances or UTTERANCES)
    print(format_table(result))
    from benchmarks.limit import measure_rate  # not before memory is measured

    try:
        rate = measure_rate(bundle)
    except BenchmarkError as error:
        print(f"int8 products left out: {error}")
    else:
        print(rate.line())
        result["int8_rate"] = rate.to_dict()
    code = OK
    if arguments.check:
        code, result["guards"] = _check(arguments, bundle, result)
    write_json(arguments.json, result)
    return code


def _check(
    arguments: argparse.Namespace, bundle: Bundle, result: dict[str, Any]
) -> tuple[int, list[dict[str, Any]]]:
    """Hold the figures against their bounds; the exit code, and the guards."""
    from rich.table import Table

    from benchmarks.guards import guards
    from benchmarks.peers import compare
    from edge_runtime.terminal import Tables
    from training.run import load_run_of

    checked = guards(result, compare(bundle, load_run_of(arguments.bundle, arguments.run)))
    table = Table("guard", "measured", "goal", "bound", "")
    for guard in checked:
        table.add_row(*guard.cells())
    Tables().print(table)
    broken = [guard for guard in checked if not guard.holds]
    for guard in broken:
        print(
            f"benchmarks: {guard.quantity} is {guard.measured:.4g}, above its bound "
            f"{guard.bound:g}",
            file=sys.stderr,
        )
    return OURS if broken else OK, [guard.to_dict() for guard in checked]
