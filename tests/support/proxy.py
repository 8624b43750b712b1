"""A TCP proxy that the tests own: it cuts, delays, swallows, and loses the reply of a chosen command.

A proxy that dies of itself would look like the fault under test, so `close` raises whatever went wrong in its threads.
"""

from __future__ import annotations

import socket
import struct
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from tests.support.resp import Frames, command_name
from tests.support.server import WAIT_S, wait_until

Then = Literal["cut", "silence"]


@dataclass(slots=True)
class Loss:
    """The reply of the n-th request that matches is lost; then the connection is cut, or stays silent."""

    matches: Callable[[bytes, bytes], bool]
    remaining: int
    then: Then
    happened: threading.Event

    def wait(self, timeout: float = WAIT_S) -> None:
        """Wait until the reply was lost. Raises TimeoutError."""
        if not self.happened.wait(timeout):
            raise TimeoutError("no request came whose reply was to be lost")


class Proxy:
    """Forwards from a free port to where a URL points; `url` is the same URL through the proxy."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port, url
        self._upstream = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = url.replace(f":{parts.port}", f":{self.port}", 1)
        self.swallow = False
        self.refuse = False
        self.delay = 0.0
        self.losses: list[Loss] = []
        self.failures: list[str] = []
        self._links: set[Link] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._thread("accept", self._accept)

    def forward_to(self, url: str) -> None:
        """From now on what connects reaches another server, as after a failover; what stands is cut."""
        parts = urlsplit(url)
        assert parts.hostname and parts.port, url
        self._upstream = (parts.hostname, parts.port)
        self.cut()

    def blackhole(self) -> None:
        """Swallow every byte in both directions; connections stand, new ones are accepted and hear nothing."""
        self.swallow = True

    def cut(self) -> None:
        """Reset every connection that stands."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.reset()

    def heal(self) -> None:
        """Back to forwarding. What went through a blackhole is out of step and is cut."""
        self.refuse, self.delay = False, 0.0
        if self.swallow:
            self.cut()
            self.swallow = False

    def lose(self, matches: Callable[[bytes, bytes], bool], nth: int, then: Then) -> Loss:
        loss = Loss(matches, nth, then, threading.Event())
        with self._lock:
            self.losses.append(loss)
        return loss

    def due(self, request: bytes, before: bytes = b"") -> Loss | None:
        """The loss whose turn has come with this request; `before`: the end of the bytes that preceded it."""
        with self._lock:
            for loss in self.losses:
                if loss.remaining > 0 and loss.matches(before, request):
                    loss.remaining -= 1
                    if loss.remaining == 0:
                        return loss
        return None

    def close(self) -> None:
        """Stop. Raises AssertionError if the proxy itself failed at any time."""
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(WAIT_S)
        self.failures += [f"{thread.name} did not end" for thread in self._threads if thread.is_alive()]
        assert not self.failures, "the proxy failed, not what it stood in front of:\n" + "\n".join(self.failures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def link(self, client: socket.socket, server: socket.socket) -> Link:
        """What handles one connection."""
        return Link(self, client, server)

    def forget(self, link: Link) -> None:
        with self._lock:
            self._links.discard(link)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if self._closing:
                    return
                raise
            try:
                if self.refuse:
                    raise ConnectionRefusedError
                server = socket.create_connection(self._upstream, timeout=WAIT_S)
            except OSError:
                reset(client)
                continue
            server.settimeout(None)
            link = self.link(client, server)
            with self._lock:
                self._links.add(link)
            self._thread("requests", link.requests)
            self._thread("replies", link.replies)

    def _thread(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._loudly, args=(work,), name=f"proxy-{name}-{self.port}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _loudly(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001  close() raises it in the test's own thread
            self.failures.append(traceback.format_exc())
            print(f"the proxy on port {self.port} failed:\n{self.failures[-1]}", file=sys.stderr)


class Link:
    """One connection through a proxy: `request` and `reply` say what goes on and what is lost."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.silent = False

    def request(self, data: bytes) -> bytes:
        """What of the client's bytes goes on to the server."""
        return data

    def reply(self, data: bytes) -> bytes:
        """What of the server's bytes goes on to the client."""
        return data

    def lost(self, loss: Loss) -> None:
        """A reply was lost: from here on the connection is out of step."""
        self.silent = True
        if loss.then == "cut":
            self.reset()
        loss.happened.set()

    def reset(self) -> None:
        reset(self.client)
        reset(self.server)

    def requests(self) -> None:
        self._pump(self.client, self.server, self.request)

    def replies(self) -> None:
        self._pump(self.server, self.client, self.reply)

    def _pump(self, source: socket.socket, target: socket.socket, edit: Callable[[bytes], bytes]) -> None:
        try:
            while data := source.recv(65536):
                if self.proxy.swallow:
                    continue
                if edited := edit(data):
                    time.sleep(self.proxy.delay)
                    target.sendall(edited)
        except OSError:
            pass  # one side is gone, so the other one goes
        finally:
            self.reset()
            self.proxy.forget(self)


class RedisProxy(Proxy):
    """Knows Redis's frames, so that it can lose the reply of the n-th XACK, or answer every command with an error."""

    error = b""
    """Stands in for every reply while it is set; the commands do not reach the server."""

    def lose_reply(self, *commands: str, nth: int = 1, then: Then = "cut", containing: bytes = b"") -> Loss:
        """Lose the reply of the n-th of these commands from now on (whose frame contains these bytes)."""
        names = {name.upper() for name in commands}
        return self.lose(lambda _, frame: command_name(frame) in names and containing in frame, nth, then)

    def link(self, client: socket.socket, server: socket.socket) -> Link:
        return _RedisLink(self, client, server)


class _RedisLink(Link):
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        super().__init__(proxy, client, server)
        self._requests, self._replies = Frames(), Frames()
        self._expected: deque[Loss | None] = deque()

    def request(self, data: bytes) -> bytes:
        frames = self._requests.feed(data)
        if isinstance(self.proxy, RedisProxy) and self.proxy.error:
            self.client.sendall(self.proxy.error * len(frames))
            return b""
        self._expected.extend(map(self.proxy.due, frames))
        return data

    def reply(self, data: bytes) -> bytes:
        passed = b""
        for frame in self._replies.feed(data):
            loss = None if frame[:1] == b">" else self._expected.popleft()
            if loss is not None:
                self.lost(loss)
            if not self.silent:
                passed += frame
        return passed


class DatabaseProxy(Proxy):
    """Knows of a database's protocol only when the answer to a statement is complete.

    PostgreSQL says so with ReadyForQuery and the status "idle": after COMMIT, or after the Sync that ends a pipeline.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.complete = b"Z\x00\x00\x00\x05I" if url.startswith("postgresql") else b""

    def lose_reply(self, containing: bytes = b"COMMIT", *, nth: int = 1, then: Then = "cut") -> Loss:
        """Lose what the server says from the n-th request with these bytes until its transaction has ended."""
        split = len(containing) - 1
        return self.lose(lambda before, data: containing in before[-split:] + data, nth, then)

    def link(self, client: socket.socket, server: socket.socket) -> Link:
        return _DatabaseLink(self, client, server)


class _DatabaseLink(Link):
    """Matches a statement even where it is split between two reads."""

    def __init__(self, proxy: DatabaseProxy, client: socket.socket, server: socket.socket) -> None:
        super().__init__(proxy, client, server)
        self._complete = proxy.complete
        self._tail = b""
        self._losing: Loss | None = None
        self._swallowed = b""

    def request(self, data: bytes) -> bytes:
        if self._losing is None:
            self._losing = self.proxy.due(data, self._tail)
        self._tail = data[-64:]
        return data

    def reply(self, data: bytes) -> bytes:
        if self._losing is None or self.silent:
            return b"" if self.silent else data
        self._swallowed = self._swallowed[-32:] + data
        if self._swallowed.endswith(self._complete):
            self.lost(self._losing)
        return b""


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN, waking whoever reads from it."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
    except OSError:
        pass
    sock.close()


def wait_connected(proxy: Proxy, timeout: float = WAIT_S) -> None:
    """Wait until somebody is connected through the proxy."""
    wait_until(lambda: proxy._links, timeout=timeout, what="a connection through the proxy")
