"""A headless Chromium, driven through its debugging pipe: no driver and no package is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of a browser; use as a context manager.

    Args:
      profile: pathlib.Path of an empty folder.
      timeout: seconds that any one answer may take.

    Attributes:
      events: list of what the page reported so far, as the DevTools protocol has it.
    """

    def __init__(self, profile, timeout=60):
        path = next(filter(None, map(shutil.which, _NAMES)), None)
        if path is None:
            pytest.skip(f"a browser needed: none of {', '.join(_NAMES)} is on the PATH")
        self._timeout, self._number, self._rest, self.events = timeout, 0, b"", []
        (take, self._send), (self._receive, give) = os.pipe(), os.pipe()

        def connect():  # the protocol's pipe is file descriptors 3 and 4
            commands, answers = os.dup(take), os.dup(give)
            for copy, number in ((commands, 3), (answers, 4)):
                os.dup2(copy, number)
                os.set_inheritable(number, True)  # dup2 leaves it closed where copy is the number

        self._process = subprocess.Popen(
            [path, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            close_fds=False,
            preexec_fn=connect,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(take)
        os.close(give)
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._send)
        os.close(self._receive)

    def call(self, method, **params):
        """The result of a method of the DevTools protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        answer = self._await(lambda each: each.get("id") == self._number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def show(self, width, height, *, dark=False, media="screen"):
        """Sets the window's size in CSS pixels and what the page is told about the device."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def open(self, url):
        """Loads a page and waits until it is complete."""
        seen = len(self.events)
        self.call("Page.navigate", url=url)
        loaded = "Page.loadEventFired"
        if not any(event["method"] == loaded for event in self.events[seen:]):
            self._await(lambda each: each.get("method") == loaded)

    def evaluate(self, script):
        """Value of a JavaScript expression, a promise's once it is kept."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def screenshot(self, whole=False):
        """PNG file of the window, or of the whole page, as bytes."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def requests(self):
        """URLs that were asked for, but for those that hold their content themselves."""
        sent = (
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        )
        return [url for url in sent if not url.startswith("data:")]

    def complaints(self):
        """What the page wrote to the console, warnings and uncaught errors included."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in kinds]

    def _await(self, wanted):
        end = time.monotonic() + self._timeout
        while True:
            while b"\0" not in self._rest:
                ready, *_ = select.select([self._receive], [], [], max(end - time.monotonic(), 0))
                part = os.read(self._receive, 1 << 20) if ready else b""
                if not part:
                    raise TimeoutError(f"no answer from the browser within {self._timeout} s")
                self._rest += part
            message, _, self._rest = self._rest.partition(b"\0")
            message = json.loads(message)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message
