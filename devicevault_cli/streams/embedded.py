"""A private Redis for the demo: a `redis-server` of the machine, else fakeredis with Lua (the extra `demo`)."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from devicevault_cli.directories import temporary_directory
from devicevault_cli.errors import DvctlError, Unavailable
from devicevault_cli.streams.connect import Client, connect
from devicevault_cli.streams.stream import Stream


@contextmanager
def embedded_redis() -> Iterator[tuple[Client, str]]:
    """A client of a new, empty Redis that ends with the block, and a description of it.

    Raises DvctlError if the machine has none and the extra is not installed.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        yield _fake(), "fakeredis, in this process"
        return
    with temporary_directory() as folder:
        socket = Path(folder) / "redis.sock"
        options = ("--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", folder)
        server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield _await(connect(f"unix://{socket}"), server), f"a private {Path(binary).name} on a socket"
        finally:
            server.terminate()
            server.wait(timeout=10)


def _fake() -> Client:
    if find_spec("fakeredis") is None or find_spec("lupa") is None:
        raise DvctlError(
            "the demo needs a Redis, and neither redis-server nor fakeredis with Lua is installed",
            hint="install the extra: pip install 'dvctl[demo]', or pipx inject dvctl 'fakeredis[lua]'",
        )
    import fakeredis

    return fakeredis.FakeRedis(version=(7,))


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
