"""That it hears, before anybody spoke: a level, "speak now", and what to do where nothing comes."""

from __future__ import annotations

from rich.text import Text

from edge_runtime.audio.levels import SILENT_DB, Level

_PATIENCE = 10.0  # seconds of audio without speech, until it is said what may be wrong
_LOWEST_DB = -60.0  # at the left end of the bar
_LOUD_DB = -50.0  # speech is louder
_BAR = 20  # columns
_FADE = 0.6  # of a loud moment in the next tenth of a second, so that the eye sees it


class FirstMinute:
    """Rows for the terminal, from the first sample to the first utterance."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._t = 0.0
        self._form = ""
        self._level = Level()
        self._shown = 0.0  # share of the bar
        self._loudest = SILENT_DB
        self.over = False
        """Whether somebody spoke."""

    def take(self, t: float, form: str, level: Level) -> None:
        """The level at second `t` of the stream."""
        self._begun = t if self._begun is None else self._begun
        self._t, self._form, self._level = t, form, level
        share = min(1.0, max(0.0, 1 - level.rms_db / _LOWEST_DB))
        self._shown = max(share, self._shown * _FADE)
        self._loudest = max(self._loudest, level.rms_db)

    def end(self) -> None:
        """Somebody speaks: it works, and what follows shows it."""
        self.over = True

    def rows(self) -> list[Text]:
        """What to draw; nothing before the first sample, and after the first word."""
        if self.over or self._begun is None:
            return []
        row = Text(no_wrap=True, overflow="crop")
        color = "red" if self._level.clipped else "green"
        row.append(f"{'█' * round(_BAR * self._shown):<{_BAR}}", style=color)
        row.append(f" {self._level.rms_db:4.0f} dB  ", style="dim")
        row.append("speak now", style="bold")
        row.append(f"  {self._form}", style="dim")
        if self._t - self._begun < _PATIENCE:
            return [row]
        return [row, Text(self._what_may_be_wrong(), style="yellow")]

    def _what_may_be_wrong(self) -> str:
        if self._loudest <= SILENT_DB:
            return (
                "nothing but digital silence: it is muted (alsamixer, pactl), or the wrong device "
                "(edge-emotion devices)"
            )
        if self._loudest < _LOUD_DB:
            return (
                f"nothing louder than {self._loudest:.0f} dB: too quiet; turn its gain up, come "
                "nearer, or take another device (edge-emotion devices --meter)"
            )
        return (
            "sound comes, but no speech was found in it: speak a whole sentence; is this the right "
            "device (edge-emotion devices --meter)?"
        )
