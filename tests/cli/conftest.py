"""main() in this process, with streams and terminal facts of the test's own."""

from __future__ import annotations

import gc
import io
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest

from devicevault_cli.cli.app import run
from devicevault_cli.output.terminal import Terminal

COLLECT_EVERY = 50
"""A command line leaves clients of redis-py behind, of which each is a cycle that holds two megabytes."""
_calls = count(1)


@dataclass(frozen=True)
class Answer:
    """What a command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one document on one line."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """Runs command lines: `cli("pending", "-o", "json")`, or `cli.at(redis_url)("pending")`."""

    environ: dict[str, str]
    typed: str = ""
    tty: bool = False

    def __call__(self, *words: str, stdin: str | None = None) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        given = io.StringIO(self.typed if stdin is None else stdin)
        terminal = Terminal(
            given, out, err, self.environ, stdin_is_tty=self.tty, stdout_is_tty=self.tty, stderr_is_tty=self.tty
        )
        code = run(words, terminal)
        gc.unfreeze()  # what `consume` froze, garbage of this process included
        if next(_calls) % COLLECT_EVERY == 0:
            gc.collect()
        return Answer(code, out.getvalue(), err.getvalue())

    def at(self, redis_url: str = "", database_url: str = "", **environ: str) -> Cli:
        """The same with these servers in the environment."""
        urls = {"DEVICEVAULT_REDIS_URL": redis_url, "DEVICEVAULT_DATABASE_URL": database_url}
        given = {name: value for name, value in urls.items() if value}
        return replace(self, environ=self.environ | given | environ)

    def typing(self, text: str) -> Cli:
        """The same on a terminal where somebody types this."""
        return replace(self, typed=text, tty=True)


@pytest.fixture
def cli(tmp_path: Any) -> Iterator[Cli]:
    """Command lines with a home of their own; `consume` may set signal handlers, which are put back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    homes = {f"XDG_{name}_HOME": str(tmp_path / name.lower()) for name in ("CONFIG", "STATE")}
    yield Cli({"HOME": str(tmp_path), "TERM": "dumb"} | homes)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def at(cli: Cli, redis_url: str, sqlite_url: str) -> Cli:
    """Command lines on an empty Redis and an SQLite file with DeviceVault's tables."""
    return cli.at(redis_url, sqlite_url)


CLOSED = "redis://127.0.0.1:1/0"
"""Nobody listens there."""
CLOSED_DATABASE = "postgresql://nobody:hidden@127.0.0.1:1/none"
