"""Where `run` has its words from, with the password that opens it."""

from __future__ import annotations

from edge_runtime.commands.settings import RunSettings
from edge_runtime.console import PROGRAM, note
from edge_runtime.settings import secret_in
from edge_runtime.text import has_password, with_password, without_password


def words_source(settings: RunSettings) -> str:
    """The source of words that `settings` name, a broker's with the password of its user.

    Raises SettingError for a file of a password that cannot be read.
    """
    if has_password(settings.text):
        note(
            f"{PROGRAM}: {without_password(settings.text)}: on the command line, whoever lists the "
            "processes reads the password; name the user alone, and give it by "
            "--text-password-file or EDGE_EMOTION_TEXT_PASSWORD"
        )
    password: str | None = settings.text_password
    if settings.text_password_file is not None:
        password = secret_in(settings.text_password_file, "text_password_file")
    return settings.text if password is None else with_password(settings.text, password)
