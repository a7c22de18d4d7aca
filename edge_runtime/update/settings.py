"""Whose bundles this device takes, and where it looks for new ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.settings import Settings, setting
from edge_runtime.signature import Trust
from edge_runtime.update.releases import PINNED_KEY, Releases


@dataclass(frozen=True)
class TrustSettings(Settings):
    """Whose bundles are run."""

    bundle_key: Path | None = setting(
        None,
        "Run no bundle but those that this public Ed25519 key has signed (python -m conversion "
        "sign), and that which came with the program; unless given, the one that came with "
        "python -m conversion deploy, if any.",
        metavar="FILE",
    )
    allow_downgrade: bool = setting(
        False, "Take a signed bundle that is older than what was installed here."
    )

    @property
    def trust(self) -> Trust | None:
        """What a bundle must be; None where any is taken."""
        releases = Releases()
        key = self.bundle_key or releases.pinned(PINNED_KEY)
        if key is None:
            return None
        return Trust(key, 0 if self.allow_downgrade else releases.memory.floor)


@dataclass(frozen=True)
class UpdateSettings(Settings):
    """Where new bundles come from."""

    repository: str | None = setting(
        None,
        "Update repository that is polled, http:// or https:// (python -m conversion publish).",
        metavar="URL",
    )
    repository_root: Path | None = setting(
        None,
        "Its root.json, as it was brought here by hand; unless given, the one that came with "
        "python -m conversion deploy.",
        metavar="FILE",
    )
    repository_channel: str = setting("stable", "Which of the repository's bundles is followed.")
    apply_command: str | None = setting(
        None,
        "Command that makes what listens take a new release, where it is no service of systemd: "
        "'docker kill -s HUP edge-emotion'. Where it fails, the release is rolled back.",
        metavar="COMMAND",
    )
