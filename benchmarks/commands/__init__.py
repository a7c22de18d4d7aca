"""The commands of `python -m benchmarks`, one a file with its options.

A module has `add(commands)`, which adds its parser and names what runs. Nothing here imports what
takes seconds before a command runs.
"""

MODULES = ("accuracy", "latency", "peers", "robustness", "speakers", "adapting", "text", "report")
"""In the order of the help."""
