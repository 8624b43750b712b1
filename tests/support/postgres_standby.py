"""A streaming standby of a private PostgreSQL: cut off, promoted, and listed with its primary in one URL."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.postgres_server import PostgresServer
from tests.support.server import ServerFailed, wait_until


class PostgresStandby(PostgresServer):
    """An asynchronous standby, copied from a running primary. `name`: its `application_name` there."""

    def __init__(self, primary: PostgresServer, *settings: str, name: str = "standby") -> None:
        super().__init__(primary.kind, *settings)
        self._primary, self._name = primary, name

    def _initdb(self) -> None:
        source = f"host=127.0.0.1 port={self._primary.port} user=postgres application_name={self._name}"
        command: list[str | Path] = [self._bin / "pg_basebackup", "-D", self.data, "-d", source, "-R", "-X", "stream"]
        answer = subprocess.run(
            [*command, "-c", "fast", "--no-sync"],
            user=self.user,
            extra_groups=None if self.user is None else [],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServerFailed(f"pg_basebackup: {answer.stderr[-1000:]}")

    def wait_streaming(self) -> None:
        """Wait until it has replayed what the primary has written so far."""
        [(position,)] = self._primary.execute("SELECT pg_current_wal_lsn()")
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{position}' FROM pg_stat_wal_receiver"
        wait_until(lambda: self.execute(replayed) == [(True,)], what="the standby to catch up")

    def cut_off(self) -> None:
        """From now on it receives nothing from the primary, as after a cut of the network between the two."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        wait_until(lambda: not self.execute("SELECT 1 FROM pg_stat_wal_receiver"), what="the end of the stream")

    def promote(self) -> None:
        """Make it the primary, on a timeline of its own."""
        self.execute("SELECT pg_promote(true, 60)")
        wait_until(lambda: self.execute("SELECT pg_is_in_recovery()") == [(False,)], what="the promotion")


def listed(*servers: PostgresServer, database: str) -> str:
    """A URL that names the servers in this order. `database`: its name, or a URL of it."""
    places = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://postgres@{places}/{database.rpartition('/')[2]}"
