"""A private Redis for the demo: a `redis-server` of the machine, else fakeredis with Lua (the extra `demo`)."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from devicevault_cli.directories import temporary_directory
from devicevault_cli.errors import DvctlError, Unavailable
from devicevault_cli.streams.connect import Client, connect
from devicevault_cli.streams.stream import Stream


class Embedded(NamedTuple):
    """A client of a private Redis, its URL for other processes, and a description."""

    client: Client
    url: str
    what: str


@contextmanager
def embedded_redis() -> Iterator[Embedded]:
    """A new, empty Redis that ends with the block.

    Raises DvctlError if the machine has none and the extra is not installed.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        with _fake() as embedded:
            yield embedded
        return
    with temporary_directory() as folder:
        socket = Path(folder) / "redis.sock"
        options = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", folder)
        # In a session of its own: Ctrl-C is for dvctl alone, which ends it.
        server = subprocess.Popen(
            [binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            url = f"unix://{socket}"
            yield Embedded(_await(connect(url), server), url, f"a private {Path(binary).name}")
        finally:
            server.terminate()
            server.wait(timeout=10)


@contextmanager
def _fake() -> Iterator[Embedded]:
    if find_spec("fakeredis") is None or find_spec("lupa") is None:
        raise DvctlError(
            "the demo needs a Redis, and neither redis-server nor fakeredis with Lua is installed",
            hint="install the extra: pip install 'dvctl[demo]', or pipx inject dvctl 'fakeredis[lua]'",
        )
    import fakeredis

    class Server(fakeredis.TcpFakeServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is no error."""

    server = Server(("127.0.0.1", 0), server_version=(7,))
    thread = Thread(target=server.serve_forever, args=(0.05,), name="fakeredis")
    thread.start()
    try:
        url = f"redis://127.0.0.1:{server.server_address[1]}/0"
        yield Embedded(fakeredis.FakeRedis(server=server.fake_server), url, "fakeredis, in this process")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _await(client: Client, server: subprocess.Popen[bytes]) -> Client:
    end = time.monotonic() + 10
    while server.poll() is None and time.monotonic() < end:
        try:
            Stream(client, "any").ping()
        except Unavailable:
            time.sleep(0.02)
        else:
            return client
    raise DvctlError("the private redis-server did not start")
