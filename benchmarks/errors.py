"""The one family of errors of the benchmarks."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A benchmark that cannot be run as asked; the message says why."""
