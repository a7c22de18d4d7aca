"""The commands of `python -m training`, one a file with its options.

A module has `add(commands)`, which adds its parser and names what runs. Nothing here imports torch
before a command runs.
"""

MODULES = (
    "corpora",
    "fit",
    "adapt",
    "segment",
    "crossval",
    "compare",
    "familiarity",
    "reference",
    "pretrained",
    "dimensions",
    "table",
    "words",
    "phrases",
    "variants",
)
"""In the order of the help."""
