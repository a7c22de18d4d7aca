"""Sound to whoever reviews it: by a program of its own, so that one that hangs holds nothing up.

As `python -m edge_runtime.collect.play FILE` it plays a file by sounddevice.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import EdgeError, MissingPackageError
from edge_runtime.system import module_command, native_stderr_silenced
from edge_runtime.untrusted import printable

_GRACE = 2.0  # seconds from the wish that it ends to its end
_LAST = 300  # bytes of what a player says, the last ones


class Player:
    """Plays one file at a time.

    Parameters
    ----------
    command : a program and its arguments, to which the file is added; None for sounddevice.

    Raises EdgeError for a program that is not there, MissingPackageError without sounddevice.
    """

    def __init__(self, command: str | None) -> None:
        if command is None and importlib.util.find_spec("sounddevice") is None:
            raise MissingPackageError(
                "playing sound (or --play-command 'aplay -q')", "sounddevice", "mic"
            )
        try:
            words = module_command(__name__) if command is None else shlex.split(command)
        except ValueError as error:
            raise EdgeError(f"--play-command {command}: {error}") from None
        if not words or shutil.which(words[0]) is None:
            raise EdgeError(f"--play-command: no program {words[0] if words else ''!r} is there")
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the player

    def start(self, file: Path) -> None:
        """Begin to play a file, in place of the one that is being played."""
        self.stop()
        self._said.seek(0)
        self._said.truncate()
        self._process = subprocess.Popen(
            [*self._words, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
        )

    def trouble(self) -> str:
        """Why the last file was not played, once; "" where nothing is known to be wrong."""
        if self._process is None or not self._process.poll():
            return ""
        code, self._process = self._process.returncode, None
        self._said.seek(0, 2)
        self._said.seek(max(0, self._said.tell() - _LAST))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return printable(lines[-1]) if lines else f"{self._words[0]} ended with {code}"

    def stop(self) -> None:
        """Be silent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)

    def close(self) -> None:
        """Be silent, and give back what was taken."""
        self.stop()
        self._said.close()


def main(file: str) -> int:
    """Play a WAV file of ours to its end; the exit code."""
    from edge_runtime.audio.file import read_file
    from edge_runtime.pcm import SAMPLE_RATE

    try:
        samples = read_file(file)
        with native_stderr_silenced():
            import sounddevice

            sounddevice.play(samples, SAMPLE_RATE, blocking=True)
    except Exception as error:  # PortAudio's are of its own family
        print(f"{error} (--play-command 'aplay -q' is another way)", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
