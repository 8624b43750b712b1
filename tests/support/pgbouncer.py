"""A private PgBouncer in transaction mode, in front of a private PostgreSQL."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.support.server import ServerProcess, free_port, server_directory, unprivileged

POOL = 2
"""Sessions of the server for all clients together: fewer than clients, so that transactions change sessions."""

_SETTINGS = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 50
server_idle_timeout = 5
"""


def pgbouncer_program() -> Path | None:
    """Where it is installed; distributions put it where only root looks."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


class PgBouncer:
    """One PgBouncer; `through` makes a database's URL lead through it."""

    def __init__(self, program: Path, database_url: str) -> None:
        parts = urlsplit(database_url)
        self._port = free_port()
        user = unprivileged("postgres")
        self._directory = server_directory("pgbouncer", user)
        settings = self._configure(database_url)
        self.url = database_url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{self._port}")
        self._process = ServerProcess([program, settings], log=self._directory / "log", user=user)
        self._process.wait_ready(self._answers)

    def _configure(self, database_url: str) -> Path:
        parts = urlsplit(database_url)
        settings = self._directory / "pgbouncer.ini"
        settings.write_text(
            _SETTINGS.format(host=parts.hostname, user=parts.username, port=parts.port, listen=self._port, pool=POOL)
        )
        settings.chmod(0o644)
        return settings

    def lead_to(self, database_url: str) -> None:
        """From now on lead to another server, as an operator does after a fail-over; clients stay connected."""
        self._configure(database_url)
        self._process.popen.send_signal(signal.SIGHUP)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=20) as session:
                return session.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def remove(self) -> None:
        """End it and remove its directory."""
        self._process.kill9()
        shutil.rmtree(self._directory, ignore_errors=True)
