"""From a workstation to devices: signed bundles, over ssh to some, by a repository to many."""

DAYS = {"root": 365, "targets": 365, "snapshot": 30, "timestamp": 14}
"""For how long each role of an update repository counts, unless told otherwise."""
