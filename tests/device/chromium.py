"""A real Chromium without a window, driven by its own DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
INSTALL = "apt-get install chromium-headless-shell"
PATIENCE = 60.0  # seconds until a browser hangs
BINARY = next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """The program, with a profile of its own in `folder`."""

    def __init__(self, folder: Path, *options: str) -> None:
        assert BINARY is not None
        self._log = open(folder / "chromium.log", "wb")  # noqa: SIM115  # closed with it
        self.process = subprocess.Popen(
            [
                BINARY,
                "--headless",
                "--remote-debugging-port=0",
                f"--user-data-dir={folder / 'profile'}",
                "--no-first-run",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--disable-component-update",
                "--hide-scrollbars",
                "--lang=en-GB",
                # Its sandbox is not to be had as root, nor in most containers.
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
                *options,
                "about:blank",
            ],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        port = folder / "profile" / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE
        while not (port.exists() and port.read_text().count("\n")):
            assert self.process.poll() is None, (folder / "chromium.log").read_text()
            assert time.monotonic() < deadline, "Chromium did not start"
            time.sleep(0.05)
        self._address = f"http://127.0.0.1:{port.read_text().split()[0]}"

    def page(self) -> Page:
        """A new tab."""
        request = urllib.request.Request(f"{self._address}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return Page(json.load(answer)["webSocketDebuggerUrl"])

    def close(self) -> None:
        # All of its processes: nothing of its profile is kept.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()


class Page:
    """One tab. What it reports is kept in `events`, in order."""

    def __init__(self, url: str) -> None:
        self._connection = connect(url, max_size=None, compression=None)
        self._count = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the protocol, and what it answers."""
        self._count += 1
        wanted = self._count
        self._connection.send(json.dumps({"id": wanted, "method": method, "params": parameters}))
        deadline = time.monotonic() + PATIENCE
        while True:
            message = json.loads(self._connection.recv(max(0.1, deadline - time.monotonic())))
            if message.get("id") == wanted:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            if "method" in message:
                self.events.append(message)

    def go(self, url: str) -> None:
        """Open an address, and wait until it is loaded."""
        before = len(self.events)
        result = self.call("Page.navigate", url=url)
        assert not result.get("errorText"), result
        deadline = time.monotonic() + PATIENCE
        while not any(e["method"] == "Page.loadEventFired" for e in self.events[before:]):
            assert time.monotonic() < deadline, f"{url} did not load"
            self.call("Runtime.evaluate", expression="0")
            time.sleep(0.02)

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript; promises are waited for."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = PATIENCE) -> None:
        """Return once JavaScript is true."""
        deadline = time.monotonic() + seconds
        while True:
            if self.evaluate(f"Boolean({expression})"):
                return
            assert time.monotonic() < deadline, f"never came true: {expression}"
            time.sleep(0.02)

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Give files to an input, as who clicks at it does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def look(self, width: int, height: int, scheme: str, scale: float = 1) -> None:
        """A window of that size, in CSS pixels, and "light" or "dark"."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        http = [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        sockets = [
            event["params"]["url"]
            for event in self.events
            if event["method"] == "Network.webSocketCreated"
        ]
        return http + sockets

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and scripts that failed."""
        found = []
        for event in self.events:
            details = event["params"]
            if event["method"] == "Log.entryAdded":
                entry = details["entry"]
                if entry["level"] in ("error", "warning"):
                    found.append(f"{entry['source']}: {entry['text']}")
            elif event["method"] == "Runtime.exceptionThrown":
                found.append(str(details["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and details["type"] in (
                "error",
                "warning",
                "assert",
            ):
                found.append(str(details["args"]))
        return found

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.call("Page.close")
        self._connection.close()
