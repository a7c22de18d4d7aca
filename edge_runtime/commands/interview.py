"""The questions of `edge-emotion setup`, each with its default and tried at once."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.audio.sources import LIVE
from edge_runtime.bundle import load_bundle
from edge_runtime.commands.settings import DeviceSettings, lasting
from edge_runtime.config import Effective, Origin
from edge_runtime.errors import EdgeError, SettingError
from edge_runtime.questions import Questions, say
from edge_runtime.settings import Secret, from_values, options
from edge_runtime.text import GIVEN_SCHEMES, OFF
from edge_runtime.text.engines import check_source, engines
from edge_runtime.update.settings import TrustSettings

_FILE = 1  # the rank of what a settings file says, see `Origin`
_DEFAULT_DEVICE = "*"  # as the table marks it
_NONE = "-"  # an answer where Enter keeps what there is
_BROKER = "homeassistant.local"  # as Home Assistant's own system is called
_OPTIONS = {option.key: option for option in options(DeviceSettings)}


class Interview:
    """Asks for what the settings are to be.

    Parameters
    ----------
    questions : whom it asks.
    found : settings so far. What the command line or the environment say is not asked again; what
        a file says is the default.
    """

    def __init__(self, questions: Questions, found: Effective[DeviceSettings]) -> None:
        self.values: dict[str, Any] = dict(found.values)
        """Values by key, for those that do not have their default."""
        self._ask = questions
        self._origins: dict[str, Origin] = found.origins

    def run(self) -> None:
        """Ask for all parts. Raises EdgeError where the answers end, or the bundle is none."""
        for title, part in {
            "Microphone": self._microphone,
            "Words": self._words,
            "Messages (MQTT, Home Assistant)": self._messages,
            "Page": self._page,
        }.items():
            print(title)
            part()
        self.values = {
            key: lasting(key, value)
            for key, value in self.values.items()
            if value not in (None, _OPTIONS[key].default)
        }

    def _given(self, key: str) -> bool:
        """Whether that was answered in advance."""
        return key in self._origins and self._origins[key].rank > _FILE

    def _now(self, key: str) -> Any:
        return self.values.get(key, _OPTIONS[key].default)

    def _text(
        self,
        key: str,
        question: str,
        default: str = "",
        check: Callable[[str], object] | None = None,
        without: str = "",
    ) -> None:
        """Ask for a text or path, unless it is given; an answer of `default` leaves it unset.

        So does Enter, where there is none so far; else a hyphen. `without` says what that means.
        """
        if self._given(key):
            return
        now = str(self._now(key) or "")
        none = _NONE if now else ""
        if without:
            question += f" ({none or 'Enter'}: {without})"

        def checked(answer: str) -> None:
            if check is not None and not (without and answer == none):
                check(answer)

        answer = self._ask.text(question, now or default, checked)
        unset = answer in ("", default) or bool(without and answer == none)
        value = _OPTIONS[key].default if unset else _OPTIONS[key].kind(answer)
        self.values[key] = lasting(key, value)

    def _yes(self, key: str, question: str) -> bool:
        """Ask whether it is so, unless it is given."""
        if not self._given(key):
            self.values[key] = self._ask.yes(question, bool(self._now(key)))
        return bool(self._now(key))

    # The microphone

    def _microphone(self) -> None:
        from edge_runtime.devices import device_table

        others = [kind for kind in LIVE if kind != "mic" and self.values.get(kind)]
        if others:
            say(f"it listens to what --{others[0].replace('_', '-')} says")
            return
        self.values["mic"] = True
        try:
            table = device_table()
        except EdgeError as error:
            say(f"{error}; run --wait, and the service, wait for it")
            return
        for line in table:
            say(line)
        while True:
            self._device()
            works = self._tried()
            if works or self._given("device") or self._ask.defaults:
                return
            if self._ask.yes("Take it all the same", True):
                return

    def _device(self) -> None:
        from edge_runtime.audio.microphone import find, list_microphones

        def check(answer: str) -> None:
            find(list_microphones(), None if answer == _DEFAULT_DEVICE else answer)

        if self._given("device"):
            return
        question = "Which one: its number, part of its name, or * for the default"
        answer = self._ask.text(question, self._now("device") or _DEFAULT_DEVICE, check)
        if answer.isdecimal():  # numbers change when others are plugged in, see `find`
            answer = find(list_microphones(), answer).name
        self.values["device"] = None if answer == _DEFAULT_DEVICE else answer

    def _tried(self) -> bool:
        """Listen for two seconds and say how it sounds; whether nothing is wrong with it."""
        from edge_runtime.audio.microphone import MicrophoneSource
        from edge_runtime.devices import hear

        say("listening for two seconds: speak now")
        try:
            heard = hear(MicrophoneSource(self._now("device"), self._now("channel")))
        except EdgeError as error:
            say(str(error))
            return False
        say(str(heard))
        return not heard.wrong

    # Words

    def _words(self) -> None:
        trust = TrustSettings(self._now("bundle_key"), self._now("allow_downgrade")).trust
        bundle = load_bundle(self._now("bundle"), trust)
        if not bundle.manifest.reads:
            say(f"bundle {bundle.manifest.name} judges sound alone; words would only be shown")
        forms = [
            form
            for engine in engines().values()
            if importlib.util.find_spec(engine.package)
            for form in engine.forms
        ]
        say(f"installed: {', '.join((OFF, *forms))}; words stay on this device unless sent")
        if not forms:
            say("pocketsphinx hears English words: pip install 'edge-emotion[asr]'")
        self._text("text", "What hears them", OFF, _check_words)

    # Messages

    def _messages(self) -> None:
        if importlib.util.find_spec("paho") is None:
            say("they need paho-mqtt: pip install 'edge-emotion[mqtt]'")
        given = self._given("mqtt.broker")
        before = self._now("mqtt.broker")
        if not given and not self._ask.yes("Send what is felt to a broker", before is not None):
            self.values["mqtt.broker"] = None
            return
        while True:
            if not given:
                self._address()
            self._login()
            self._text("name", "What people call this device", socket.gethostname())
            if self._now("text") != OFF:
                self._yes("mqtt.text", "Send the words, too")
            works, finding = self._let_in()
            say(finding)
            if works or self._ask.defaults:
                return
            if not self._ask.yes("Answer these again", True):
                return

    def _address(self) -> None:
        scheme, _, place = str(self._now("mqtt.broker") or f"mqtt://{_BROKER}").partition("://")
        place = self._ask.text("Its name or address, with :PORT where that is unusual", place)
        scheme, _, place = place.partition("://") if "://" in place else (scheme, "", place)
        tls = self._ask.yes("With TLS", scheme == "mqtts" or place.endswith(":8883"))
        self.values["mqtt.broker"] = f"{'mqtts' if tls else 'mqtt'}://{place}"
        if tls:
            question = "File with the certificate of its CA"
            self._text("mqtt.ca_file", question, check=_check_file, without="those of the system")
        else:
            self.values["mqtt.ca_file"] = None

    def _login(self) -> None:
        """User and password of the broker."""
        self._text("mqtt.user", "User", without="none")
        if self._now("mqtt.user") is None:
            for key in ("mqtt.password", "mqtt.password_file"):
                self.values[key] = self.values.get(key) if self._given(key) else None
            return
        if self._given("mqtt.password") or self._given("mqtt.password_file"):
            return
        known = self._now("mqtt.password_file") or self._now("mqtt.password")
        secret = self._ask.secret(f"Password (not shown{'; Enter: as before' if known else ''})")
        if secret:
            self.values["mqtt.password"] = Secret(secret)

    def _let_in(self) -> tuple[bool, str]:
        """Whether the broker lets this device in, and a line on it."""
        from edge_runtime.sinks import mqtt

        # A password that was just typed counts before the file, which does not have it yet.
        values = dict(self.values)
        if values.get("mqtt.password") is not None:
            values["mqtt.password_file"] = None
        try:
            return mqtt.check(from_values(DeviceSettings, values).mqtt)
        except EdgeError as error:
            return False, str(error)

    # The page

    def _page(self) -> None:
        from edge_runtime.web import ports

        if not self._yes("web.on", "Show a page to browsers of this machine"):
            return
        while True:
            works, finding = ports.check(from_values(DeviceSettings, self.values).web)
            say(finding)
            if works or self._ask.defaults or self._given("web.port"):
                return
            answer = self._ask.text("Another port (Enter: leave it)", "", _check_port)
            if not answer:
                return
            self.values["web.port"] = int(answer)


def _check_words(answer: str) -> None:
    if answer != OFF and not answer.startswith(GIVEN_SCHEMES):
        check_source(answer)


def _check_file(answer: str) -> None:
    if answer and not Path(answer).expanduser().is_file():
        raise SettingError(f"there is no file {answer}")


def _check_port(answer: str) -> None:
    if answer and not (answer.isdecimal() and 0 < int(answer) < 65536):
        raise SettingError(f"expected a number from 1 to 65535, not {answer!r}")
