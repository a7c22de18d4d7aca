"""`python -m benchmarks`: accuracy and latency of a bundle, and what others need for the same."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys

from benchmarks import commands
from benchmarks.errors import BenchmarkError
from edge_runtime.console import command_parser, run_command
from edge_runtime.errors import EdgeError

_EPILOG = """examples:
  python -m benchmarks accuracy --bundle default --manifest clips.csv --json accuracy.json
  python -m benchmarks latency --check
  python -m benchmarks peers
  python -m benchmarks peers --corpora ravdess=data/ravdess emodb=data/emodb --folds 5
  python -m benchmarks robustness emovo=data/emovo librispeech=data/librispeech --plot heat.png
  python -m benchmarks speakers runs/cv ravdess=data/ravdess emodb=data/emodb
  python -m benchmarks adapting ased=data/ased --base runs/base --json adapting.json
  python -m benchmarks text meld=data/meld --run runs/meld
  python -m benchmarks text ravdess=data/ravdess meld=data/meld --engines
  python -m benchmarks text meld=data/meld --spoken 80
  python -m benchmarks text ravdess=data/ravdess --faults 8
  python -m benchmarks report --out report.html --manifest clips.csv

accuracy and latency run on a device, too: pip install 'edge-emotion[bench-device]' there, and start
them in a checkout beside it, which is never installed.
"""


def parser() -> argparse.ArgumentParser:
    """The command line; built without what takes seconds to import."""
    result, places = command_parser(
        "python -m benchmarks",
        "Measure a bundle with the code that runs on the device.",
        _EPILOG,
    )
    for name in commands.MODULES:
        importlib.import_module(f"benchmarks.commands.{name}").add(places)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; the exit code."""
    parsed = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from conversion.errors import ConversionError
    from training.errors import TrainingError

    return run_command(
        "benchmarks",
        lambda: int(parsed.command(parsed)),
        (BenchmarkError, ConversionError, TrainingError, EdgeError),
        extras="train,convert,bench",
    )


if __name__ == "__main__":
    sys.exit(main())
