"""A static update repository in the format of TUF, asked by python-tuf's own client.

The client checks signatures by the keys that the pinned root names, dates, and that nothing goes
back to an earlier version (The Update Framework specification 1.0, section 5); what it finds wrong
becomes one line here.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from edge_runtime.bundle_files import MOST_TOTAL
from edge_runtime.console import writing
from edge_runtime.errors import MissingPackageError
from edge_runtime.untrusted import read_regular
from edge_runtime.update.releases import UpdateError

if TYPE_CHECKING:
    from tuf.ngclient import Updater

METADATA, TARGETS = "metadata", "targets"  # folders of a repository
CUSTOM = "edge-emotion"  # our field of a target
_MOST_ROOT = 512_000  # bytes, as the client has it
_PATIENCE = 30  # seconds without a byte


def target_name(channel: str) -> str:
    """What the bundle of a channel is called in a repository."""
    return f"{channel}/bundle.zip"


@dataclass(frozen=True)
class Offer:
    """The bundle that a repository has for this device."""

    name: str
    """Of the bundle."""
    version: int
    """Of the bundle in its channel, from 1."""
    sha256: str
    """Of its archive, hexadecimal."""
    length: int
    """Of its archive, bytes."""
    target: Any
    """What python-tuf knows of it."""


class Repository:
    """A repository, as this device knows it. Raises UpdateError and MissingPackageError."""

    def __init__(self, url: str, root: Path, folder: Path) -> None:
        """`root` is the pinned root.json; `folder` is where what was seen is kept."""
        if importlib.util.find_spec("tuf") is None:
            raise MissingPackageError("an update repository", "tuf", "update")
        if urlsplit(url).scheme not in ("http", "https"):
            raise UpdateError(f"a repository is http://... or https://..., not {url!r}")
        self._url, self._folder = url.rstrip("/"), folder
        try:
            self._root = read_regular(root, _MOST_ROOT)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise UpdateError(f"the root of the repository, {root}: {why}") from None
        # It tells of each file that it does not know yet; what is wrong is raised as well.
        logging.getLogger("tuf").setLevel(logging.CRITICAL)
        self._updater: Updater | None = None

    def offer(self, channel: str) -> Offer:
        """What there is for a channel now."""
        found = self._asked(lambda: self._client().get_targetinfo(target_name(channel)))
        if found is None:
            raise UpdateError(f"{self._url} has no channel {channel!r}")
        known = found.custom.get(CUSTOM) if isinstance(found.custom, dict) else None
        known = known if isinstance(known, dict) else {}
        if found.length > MOST_TOTAL:
            raise UpdateError(f"{self._url}: {found.length:,} bytes are no bundle's")
        return Offer(
            "".join(c for c in str(known.get("bundle", "?")) if c.isprintable()),
            known["version"] if isinstance(known.get("version"), int) else 0,
            found.hashes.get("sha256", ""),
            found.length,
            found,
        )

    def download(self, offer: Offer, file: Path) -> None:
        """Bring the archive of an offer, whole and verified, to `file`."""
        with writing(file):
            self._asked(lambda: self._client().download_target(offer.target, str(file)))

    def _client(self) -> Updater:
        from tuf.ngclient import Updater
        from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

        if self._updater is None:
            with writing(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._updater = Updater(
                str(self._folder),
                f"{self._url}/{METADATA}/",
                target_base_url=f"{self._url}/{TARGETS}/",
                fetcher=Urllib3Fetcher(socket_timeout=_PATIENCE),
                bootstrap=self._root,
            )
        return self._updater

    def _asked(self, ask: Any) -> Any:
        """The answer to `ask`, a call of the client; its errors in one line."""
        from tuf.api import exceptions
        from urllib3.exceptions import HTTPError

        try:
            return ask()
        except exceptions.ExpiredMetadataError as error:
            why = (
                f"has expired ({error}): its keeper renews it with python -m conversion publish; "
                "or the clock here is wrong"
            )
        except exceptions.UnsignedMetadataError as error:
            why = f"is not signed by the keys that its pinned root names ({error})"
        except exceptions.BadVersionNumberError as error:
            why = f"went back to an older state than it had, which is refused ({error})"
        except exceptions.LengthOrHashMismatchError as error:
            why = f"sent something else than what was signed, or half of it ({error})"
        except exceptions.RepositoryError as error:
            why = f"is no repository that can be used: {error}"
        except exceptions.DownloadHTTPError as error:
            why = f"has not all that a repository has: {error}"
        except exceptions.DownloadError as error:
            why = f"cannot be reached, or is too slow: {_innermost(error)}"
        except HTTPError as error:
            why = f"broke off: {_innermost(error)}"
        raise UpdateError(" ".join(f"{self._url} {why}".split()))


def _innermost(error: BaseException) -> str:
    """What went wrong at the bottom: of a request that failed, the system's own words."""
    seen = error
    while (below := getattr(seen, "reason", None) or seen.__cause__) is not None:
        if not isinstance(below, BaseException) or below is seen:
            break
        seen = below
    text = str(seen)
    return text.rpartition("object at ")[2].partition(">: ")[2] or text
