"""A headless browser that opens files, driven by the DevTools protocol over a pipe: no driver, no websocket."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.allowance import Allowance
from tests.support.server import server_directory

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
GIVEN = os.environ.get("DVCTL_TEST_BROWSER", "")
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class BrowserKind:
    """A browser that speaks the DevTools protocol: its name, its binary."""

    name: str
    binary: Path


@cache
def browser_kind() -> BrowserKind | None:
    """The browser that DVCTL_TEST_BROWSER names, else the machine's Chromium or a relative of it."""
    found = [(shutil.which(name), name) for name in ([GIVEN] if GIVEN else NAMES)]
    return next((BrowserKind(Path(name).name, Path(binary)) for binary, name in found if binary), None)


class BrowserFailed(RuntimeError):
    """The browser ended, refused a command, or did not answer."""


class Browser:
    """One browser with one page. `complaints`: errors and warnings of the console, exceptions, missing resources."""

    def __init__(self, kind: BrowserKind) -> None:
        self.directory = server_directory("browser")
        self.complaints: list[str] = []
        self._number = 0
        self._received = b""
        self._session = ""
        self._loaded = False
        self._pid, self._to, self._from = _spawn(kind.binary, self.directory)
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _attach(self) -> None:
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")

    def open(self, path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Show a file in a window of so many CSS pixels, in `light` or `dark`; complaints of before are forgotten."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                     mobile=width < 600)  # fmt: skip
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.complaints.clear()
        self._loaded = False
        self.command("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._take(self._next())
        self.evaluate("document.fonts.ready.then(() => true)")

    def evaluate(self, script: str) -> Any:
        """The value of an expression, or of the promise that it is, as JSON has it."""
        reply = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise BrowserFailed(f"{script}: {reply['exceptionDetails']}")
        return reply["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page, not only what the window shows."""
        reply = self.command("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(reply["data"]))

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer. Raises BrowserFailed."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        message = json.dumps({"id": self._number, "method": method, "params": parameters} | session)
        os.write(self._to, message.encode() + b"\0")
        while True:
            reply = self._next()
            if reply.get("id") == self._number:
                break
            self._take(reply)
        if "error" in reply:
            raise BrowserFailed(f"{method}: {reply['error']}")
        result: dict[str, Any] = reply["result"]
        return result

    def _next(self) -> dict[str, Any]:
        """The next message: they are separated by NUL."""
        allowance = Allowance(PATIENCE_S)
        while b"\0" not in self._received:
            if not select.select([self._from], [], [], 0.2)[0]:
                if allowance.used_up():
                    raise BrowserFailed(f"no answer within {PATIENCE_S:g} s")
                continue
            if not (data := os.read(self._from, 1 << 20)):
                raise BrowserFailed(
                    f"the browser ended: {(self.directory / 'log').read_text(errors='replace')[-2000:]}"
                )
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _take(self, event: dict[str, Any]) -> None:
        method, about = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(about["args"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"]["text"])

    def close(self) -> None:
        """End it with all its processes and remove its profile."""
        os.close(self._to)
        os.close(self._from)
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        shutil.rmtree(self.directory, ignore_errors=True)


def _spawn(binary: Path, directory: Path) -> tuple[int, int, int]:
    """Start it in a process group of its own. -> pid, where to write commands, where to read answers

    Chromium reads from descriptor 3 and writes to 4; only posix_spawn sets these without code between fork and exec.
    """
    command = [str(binary), "--headless", "--remote-debugging-pipe", f"--user-data-dir={directory / 'profile'}"]
    # Only files of our own are opened, and containers seldom allow the sandbox or have a large /dev/shm.
    command += ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    read, to = map(_out_of_the_way, os.pipe())
    from_, write = map(_out_of_the_way, os.pipe())
    with (directory / "log").open("wb") as log:
        actions = [(os.POSIX_SPAWN_DUP2, log.fileno(), 2), (os.POSIX_SPAWN_DUP2, log.fileno(), 1)]
        actions += [(os.POSIX_SPAWN_DUP2, read, 3), (os.POSIX_SPAWN_DUP2, write, 4)]
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions, setpgroup=0)
    os.close(read)
    os.close(write)
    return pid, to, from_


def _out_of_the_way(descriptor: int) -> int:
    """The same pipe by a descriptor above 4, which only we have."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
