"""The commands of `edge-emotion`: one file a command, its options in it."""

from __future__ import annotations

MODULES = (
    "run",
    "setup",
    "enroll",
    "record",
    "review",
    "bench",
    "doctor",
    "devices",
    "config",
    "service",
    "update",
    "demo",
)
"""In the order of the help; each has `add`, which gives its command to the parser."""
