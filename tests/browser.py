"""A real browser for the tests of HTML reports: headless Chromium without a network, spoken to over DevTools' pipe.

https://chromedevtools.github.io/devtools-protocol: JSON messages that end in a zero byte, on file descriptors 3 and 4.
"""

import base64
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from shutil import which
from typing import Any

_TIMEOUT = 60.0  # s; a loaded machine
_OFFLINE = ("--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking")
_HEADLESS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


def find_chromium() -> str | None:
    """Path of the browser, if there is one."""
    return next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One process of Chromium with an empty profile in `folder`."""

    def __init__(self, executable: str, folder: Path):
        its_input, self._to = _pipe()
        self._from, its_output = _pipe()
        options = [*_HEADLESS, *_OFFLINE, f"--user-data-dir={folder}", "--remote-debugging-pipe"]
        start = (
            f"import os, sys; os.dup2({its_input}, 3); os.dup2({its_output}, 4); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", start, executable, *options, "about:blank"],
            pass_fds=(its_input, its_output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_input)
        os.close(its_output)
        self._unread, self._count = b"", 0
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        self.call("Browser.close")
        self._process.wait(_TIMEOUT)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """The result of a command; events that come before it are kept."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait_for(self, event: str, session: str) -> None:
        def is_it(message: dict[str, Any]) -> bool:
            return message.get("method") == event and message.get("sessionId") == session

        while not any(map(is_it, self.events)):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _TIMEOUT
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._from], [], [], max(deadline - time.monotonic(), 0))
            chunk = os.read(self._from, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("Chromium does not answer")
            self._unread += chunk
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)


class OpenPage:
    """A page of a local file, loaded, in a window of 1200 x 900."""

    def __init__(self, browser: Browser, path: Path):
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Runtime", "Log", "Network", "Page"):
            self._call(f"{domain}.enable")
        self._call("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
        self._call(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
        )
        self._call("Page.navigate", url=path.resolve().as_uri())
        browser.wait_for("Page.loadEventFired", self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    @property
    def problems(self) -> list[Any]:
        """Errors and warnings of the console, uncaught exceptions, and what the content policy refused."""
        self.evaluate("new Promise(requestAnimationFrame)")
        kinds = {"Runtime.exceptionThrown", "Log.entryAdded"}
        return [
            event["params"]
            for event in self._events()
            if event["method"] in kinds
            or (event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"))
        ]

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, pictures within it left out."""
        sent = [e["params"]["request"]["url"] for e in self._events() if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def prefer(self, *, scheme: str = "light", media: str = "screen") -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)

    def move_to(self, x: float, y: float, *, pressed: bool = False) -> None:
        """The mouse, in the window."""
        buttons = {"button": "left", "buttons": 1} if pressed else {}
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **buttons)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        def send(kind: str, place: tuple[float, float]) -> None:
            self._call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

        self.move_to(*start)
        send("mousePressed", start)
        self.move_to(*end, pressed=True)
        send("mouseReleased", end)

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def screenshot(self, path: Path) -> None:
        """Of the whole page."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        picture = self._call(
            "Page.captureScreenshot", captureBeyondViewport=True, clip={**size, "x": 0, "y": 0, "scale": 1}
        )
        path.write_bytes(base64.b64decode(picture["data"]))

    def print_to(self, path: Path) -> None:
        """As a PDF, whatever medium was preferred."""
        self._call("Emulation.setEmulatedMedia", media="")
        path.write_bytes(base64.b64decode(self._call("Page.printToPDF", printBackground=True)["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def _events(self) -> list[dict[str, Any]]:
        return [event for event in self._browser.events if event.get("sessionId") == self._session]


def _pipe() -> tuple[int, int]:
    """(read, write) with numbers above those that the browser wants to have."""
    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high
