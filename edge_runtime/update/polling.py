"""One look at a repository: what is new is brought, tried, and becomes current."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from edge_runtime.signature import Trust
from edge_runtime.update.delivery import Apply, Wanted, deliver
from edge_runtime.update.releases import INCOMING, Releases, UpdateError
from edge_runtime.update.repository import Offer, Repository


def offered(releases: Releases, repository: Repository, channel: str, again: bool) -> Offer | None:
    """What the repository has, if it is not what is current here; None otherwise.

    Raises UpdateError for what was tried here and did not work, unless it is to be tried `again`,
    and where the repository cannot be used.
    """
    offer = repository.offer(channel)
    current = releases.current
    if current and releases.about(current).sha256 == offer.sha256:
        return None
    refused = releases.memory.refused.get(offer.sha256)
    if refused and not again:
        raise UpdateError(
            f"{described(offer)} was tried here and did not work: {refused}; try it again with "
            "--again, or publish another"
        )
    return offer


def take(
    releases: Releases,
    repository: Repository,
    offer: Offer,
    source: str,
    trust: Trust | None,
    apply: Apply,
    tell: Callable[[str], None],
) -> int:
    """Bring an offer and make it current, in a device that is locked; its number.

    What was verified and did not work is remembered. Raises as `deliver` does.
    """
    with tempfile.TemporaryDirectory(prefix=INCOMING, dir=releases.folder) as folder:
        archive = Path(folder, "bundle.zip")
        tell(f"fetching {described(offer)}")
        repository.download(offer, archive)
        wanted = Wanted(archive, source, trust, sha256=offer.sha256)
        try:
            return deliver(releases, wanted, apply, tell)
        except UpdateError as error:  # not what another key, or --allow-downgrade, mends
            releases.remember_refused(offer.sha256, str(error))
            raise


def described(offer: Offer) -> str:
    """An offer for people."""
    return f"{offer.name} version {offer.version} ({offer.length / 1e6:.1f} MB)"
