"""One look at a repository: what is new is brought, tried, and becomes current."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from edge_runtime.signature import Trust
from edge_runtime.update.delivery import Apply, Wanted, deliver
from edge_runtime.update.releases import INCOMING, NotWorkingError, Releases, UpdateError
from edge_runtime.update.repository import Offer, Repository


def offered(releases: Releases, repository: Repository, channel: str, again: bool) -> Offer | None:
    """What the repository has, if it is new here; None otherwise.

    What was taken once is not new, whatever somebody here went on, or back, to since. Raises
    UpdateError for what was tried here and did not work, and where the repository cannot be used.
    What is not current is new, and to be tried, `again`.
    """
    offer = repository.offer(channel)
    current, memory = releases.current, releases.memory
    if current and releases.about(current).sha256 == offer.sha256:
        return None
    if again:
        return offer
    if memory.taken == offer.sha256:
        return None
    if refused := memory.refused.get(offer.sha256):
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

    It is remembered, and so is what was verified and did not work. Raises as `deliver` does.
    """
    with tempfile.TemporaryDirectory(prefix=INCOMING, dir=releases.folder) as folder:
        archive = Path(folder, "bundle.zip")
        tell(f"fetching {described(offer)}")
        repository.download(offer, archive)
        try:
            number = deliver(releases, Wanted(archive, source, trust), apply, tell)
        except NotWorkingError as error:  # not what is mended here, and may be at the next look
            releases.remember_refused(offer.sha256, str(error))
            raise
        releases.remember_taken(offer.sha256)
        return number


def described(offer: Offer) -> str:
    """An offer for people."""
    return f"{offer.name} version {offer.version} ({offer.length / 1e6:.1f} MB)"
