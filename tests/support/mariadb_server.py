"""A private MariaDB: a data directory of its own, and fresh databases with DeviceVault's tables."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql

from tests.support import schema
from tests.support.server import (
    ServerFailed,
    ServerProcess,
    free_port,
    server_directory,
    unprivileged,
    version_of,
)

_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/mysql/bin")


@dataclass(frozen=True, slots=True)
class MariaDbKind:
    """The machine's MariaDB: its name in test ids, the server and the program that makes its tables."""

    name: str
    version: str
    binary: Path
    install: Path


@cache
def mariadb_kind() -> MariaDbKind | None:
    """The machine's MariaDB server, where there is one."""
    path = os.pathsep.join([*os.get_exec_path(), *_SYSTEM_FOLDERS])
    binary, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    if binary is None or install is None:
        return None
    match = re.search(r"Ver (\d+\.\d+)", version_of(Path(binary), "--no-defaults", "--version"))
    version = match[1] if match else "unknown"
    return MariaDbKind(f"mariadb-{version} (machine)", version, Path(binary), Path(install))


class MariaDbServer:
    """One server with the user `root` and no password. `args`: options of mariadbd."""

    def __init__(self, kind: MariaDbKind, *args: str) -> None:
        self.kind = kind
        self.user = unprivileged("mysql")
        self.directory = server_directory("mariadb", self.user)
        self.data = self.directory / "data"
        self.port = free_port()
        self._args = args
        self._numbers = itertools.count(1)
        self._process: ServerProcess | None = None

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the server was not started"
        return self._process

    def url_for(self, database: str, user: str = "root", password: str = "") -> str:
        return f"mysql://{user}{':' + password if password else ''}@127.0.0.1:{self.port}/{database}"

    def start(self) -> MariaDbServer:
        """Start it, after creating its system tables the first time, and wait until it accepts connections."""
        if not self.data.exists():
            self._install()
        command: list[str | Path] = [self.kind.binary, "--no-defaults", f"--datadir={self.data}"]
        command += ["--bind-address=127.0.0.1", f"--port={self.port}", f"--socket={self.directory}/socket"]
        command += [f"--pid-file={self.directory}/pid", "--skip-name-resolve", "--max-allowed-packet=64M"]
        command += ["--innodb-flush-log-at-trx-commit=0", "--character-set-server=utf8mb4"]
        # A server removes what earlier ones left in their common /tmp, and takes others' temporary tables for that.
        command += [f"--tmpdir={self.directory}"]
        user = [f"--user={self.user}"] if self.user else []
        self._process = ServerProcess([*command, *user, *self._args], log=self.directory / "log")
        self._process.wait_ready(self._answers, timeout=120)
        return self

    def _install(self) -> None:
        command = [str(self.kind.install), "--no-defaults", f"--datadir={self.data}"]
        command += ["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]
        command += [f"--user={self.user}"] if self.user else []
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            raise ServerFailed(f"mariadb-install-db: {answer.stdout[-1000:]} {answer.stderr[-1000:]}")

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True

    def connect(self, database: str | None = None) -> pymysql.Connection[Any]:
        """A plain autocommit connection as root; a database's name or a URL of `database()`."""
        name = urlsplit(database).path[1:] if database and "://" in database else database
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database=name, autocommit=True, connect_timeout=20
        )

    def execute(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements as root; the rows of the last one."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def database(self, *, bigint: bool = False, empty: bool = False) -> str:
        """The URL of a fresh database with DeviceVault's tables and fifty devices (`empty`: without)."""
        name = f"db{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        if not empty:
            self.execute(*schema.statements("mysql", bigint=bigint), database=name)
        return self.url_for(name)

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]}")

    def stop(self) -> None:
        self.process.thaw()
        self.process.send(signal.SIGTERM)

    def kill9(self) -> None:
        self.process.kill9()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def restart(self) -> None:
        """kill -9 and start again on the same data."""
        self.kill9()
        self.start()

    def remove(self) -> None:
        """End it for good and remove its directory."""
        if self._process is not None:
            self._process.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)
