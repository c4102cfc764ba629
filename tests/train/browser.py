"""Drives Chromium as a person would: opens a page, presses keys, moves the mouse, looks at it.

Chromium listens on a pipe of its own (file 3) and answers on another (file 4): messages of JSON
that end with a zero byte, as its DevTools protocol has them.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

_SECONDS = 60
_KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9}


class Browser:
    """A page in a headless browser.

    Args:
        profile: a folder for what the browser writes.

    Attributes:
        requests: what pages asked for.
        errors: exceptions of scripts, and errors of the console.
    """

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._loaded = self._number = 0
        self._rest = b""
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()

        def connect() -> None:
            # Beyond 3 and 4, which one of them may have.
            kept = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (commands, answers)]
            for source, target in zip(kept, (3, 4), strict=True):
                os.dup2(source, target)

        options = [
            "--headless",
            "--hide-scrollbars",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
        ]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--disable-sync", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [CHROMIUM, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=connect,
            close_fds=False,
        )
        os.close(commands)
        os.close(answers)
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self._session = None
        try:
            self.send("Browser.close")
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + _SECONDS
        while b"\0" not in self._rest:
            ready = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]
            assert ready, f"the browser says nothing for {_SECONDS} s"
            data = os.read(self._read, 1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        what, details = found.get("method"), found.get("params", {})
        if what == "Network.requestWillBeSent":
            self.requests.append(details["request"]["url"])
        elif what == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(details["exceptionDetails"]))
        elif what == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.errors.append(json.dumps(details["entry"]))
        elif what == "Page.loadEventFired":
            self._loaded += 1
        return found

    def open(self, path: Path, width: int, *, dark: bool = False) -> None:
        """Open a file in a window of this width; up to 40 rem it is a phone's."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=2 if width < 640 else 1,
            mobile=width < 640,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        before = self._loaded
        self.send("Page.navigate", url=path.resolve().as_uri())
        while self._loaded == before:
            self._receive()

    def ask(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, times: int = 1) -> None:
        """Press a key of the keyboard."""
        for _ in range(times):
            for kind in ("rawKeyDown", "keyUp"):
                self.send(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code=key,
                    windowsVirtualKeyCode=_KEYS[key],
                )

    def write(self, text: str) -> None:
        """Type a text in place of what the focused field has."""
        self.ask("document.activeElement.select()")
        self.send("Input.insertText", text=text)

    def click(self, element: str, across: float = 0.5) -> None:
        """Click into an element, at a share of its width."""
        self.ask(f"document.getElementById('{element}').scrollIntoView({{block: 'center'}})")
        x, y, width, height = self.ask(
            f"(() => {{ const r = document.getElementById('{element}').getBoundingClientRect();"
            " return [r.x, r.y, r.width, r.height]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x + across * width,
                y=y + height / 2,
                button="left",
                clickCount=1,
            )

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page as a PNG file."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
