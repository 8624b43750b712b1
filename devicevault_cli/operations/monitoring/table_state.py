"""What is known of the table: its rows and the newest of them, or why that is not known."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Any, NamedTuple

from devicevault_cli.errors import DvctlError, Refused, Unavailable
from devicevault_cli.operations.monitoring.status import iso
from devicevault_cli.repository.repository import Repository

PROBE_S = 5.0
"""How often `top` asks the database for a sign of life."""


class TableState(NamedTuple):
    """The `table` of `status -o json`, and the error where the table could not be read."""

    facts: dict[str, Any]
    error: DvctlError | None = None

    @property
    def summary(self) -> dict[str, Any]:
        """The same for people, who are told the error beside it."""
        if self.error is None:
            return self.facts
        return {"name": self.facts["name"], "state": state_of(self.error)}


def state_of(error: DvctlError) -> str:
    """What is wrong with a database, in a word."""
    if isinstance(error, Unavailable):
        return "unreachable"
    return "refused" if isinstance(error, Refused) else "not usable"


def table_state(name: str, opened: Callable[[], Repository]) -> TableState:
    """Look at the table; a database that is away is a state of it too."""
    try:
        repository = opened()
        facts = {"rows": repository.count(), "latest_timestamp": iso(repository.latest_timestamp())}
        return TableState({"name": name, **facts})
    except DvctlError as error:
        return TableState({"name": name, "rows": None, "latest_timestamp": None, "error": str(error)}, error)


class DatabaseWatch:
    """Asks the database for a sign of life, in a thread of its own: one that is silent must not stop the screen."""

    def __init__(self, opened: Callable[[], Repository] | None) -> None:
        self._opened = opened
        self._ended = Event()
        self.error: DvctlError | None = None

    def __enter__(self) -> DatabaseWatch:
        if self._opened is not None:
            Thread(target=self._run, args=(self._opened,), name="database-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def _run(self, opened: Callable[[], Repository]) -> None:
        repository: Repository | None = None
        while not self._ended.is_set():
            try:
                repository = repository or opened()
                repository.check(writing=False)
                self.error = None
            except DvctlError as error:
                self.error = error
            self._ended.wait(PROBE_S)
        if repository is not None:
            repository.close()
