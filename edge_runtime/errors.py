"""The one family of errors a user can meet on a device."""

from __future__ import annotations


class EdgeError(Exception):
    """A mistake that the message explains: what, expected, found, and the next step."""


class AudioError(EdgeError):
    """Audio that cannot be opened or read."""


class BundleError(EdgeError):
    """A bundle that must not be run."""


class EngineError(EdgeError):
    """A graph that cannot be run by what is installed."""


class TextError(EdgeError):
    """A source of words that cannot be used, or that failed."""


class ProfileError(EdgeError):
    """A voice that cannot be enrolled, or a profile that cannot be used."""


class SettingError(EdgeError):
    """A setting that is not what it may be."""


class MissingPackageError(EdgeError):
    """An optional package is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs {package}, which is not installed: pip install 'edge-emotion[{extra}]'"
        )
