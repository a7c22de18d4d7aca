"""From a workstation to devices: signed bundles, over ssh to some, by a repository to many."""
