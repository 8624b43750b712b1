"""What else may listen where dvctl looks for a Redis: a Sentinel, cluster nodes, a web server, a very old Redis."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import redis

from tests.support import servers
from tests.support.redis_server import RedisServer
from tests.support.resp import Frames, command_name
from tests.support.server import ServerProcess, free_port, server_directory, wait_until


@contextmanager
def sentinel(watched: RedisServer) -> Iterator[str]:
    """A real Sentinel that watches a Redis; its URL without a database."""
    directory, port = server_directory("sentinel"), free_port()
    config = directory / "sentinel.conf"
    config.write_text(f"sentinel monitor mymaster 127.0.0.1 {watched.port} 1\n")
    command: list[str | Path] = [watched.kind.binary, config, "--sentinel", "--port", str(port), "--bind", "127.0.0.1"]
    process = ServerProcess([*command, "--dir", directory], log=directory / "log")
    try:
        process.wait_ready(lambda: _pings(f"redis://127.0.0.1:{port}"))
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill9()
        shutil.rmtree(directory, ignore_errors=True)


def _pings(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=5) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


@contextmanager
def web_server() -> Iterator[str]:
    """A web server; HOST:PORT."""

    class Quiet(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def answering(answer: Callable[[str], bytes | None], greeting: bytes = b"") -> Iterator[str]:
    """What answers each command by its name with these bytes (None: hangs up), after a greeting; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        frames = Frames()
        with closing(connection):
            connection.sendall(greeting)
            while data := connection.recv(65536):
                for frame in frames.feed(data):
                    said = answer(command_name(frame))
                    if said is None:
                        return
                    connection.sendall(said)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_quietly, args=(serve, connection), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def _quietly(serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
    try:
        serve(connection)
    except (OSError, ValueError):
        """The other side went away, or speaks another protocol."""


@contextmanager
def cluster_of_two(new_redis: Callable[..., RedisServer]) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two nodes that know each other; the second serves every slot."""
    if (servers.some_redis() or servers.redis_to_break(None, tls=False)).version < "7":
        servers.unavailable("a Redis 7.0 or newer, whose cluster ports can be chosen", required=True)
    nodes = [
        new_redis("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", str(free_port()))
        for _ in range(2)
    ]
    first, second = nodes
    with first.client() as one, second.client() as two:
        two.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        bus = two.config_get("cluster-port")["cluster-port"]
        one.execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, bus)

        def known() -> bool:
            try:
                one.exists("any")
            except redis.exceptions.MovedError:
                return True
            except redis.RedisError:
                return False
            return False

        wait_until(known, timeout=60, what="the first node to point at the second")
    yield first, second


def address_from_outside() -> str | None:
    """An address of this machine that is not the loopback's, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address
