"""SQLite's COMMIT in a thread: while it waits for the disk, the next batch is read and decoded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager

from devicevault_cli.errors import DvctlError
from devicevault_cli.repository.model import Saved


class PendingCommit:
    """A PendingSave of which all is done but COMMIT. `translated`: the dialect's, which closes the connection."""

    def __init__(
        self, commit: Future[None], answers: list[Saved], translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._commit: Future[None] | None = commit
        self._answers: list[Saved] | DvctlError = answers
        self._translated = translated

    def wait(self, seconds: float) -> bool:
        """True once COMMIT is over."""
        return self._commit is None or bool(wait([self._commit], seconds).done)

    def finish(self) -> None:
        """Wait for the end, however it comes, and remember an error."""
        if self._commit is not None:
            commit, self._commit = self._commit, None
            try:
                with self._translated():
                    commit.result()
            except DvctlError as error:
                self._answers = error

    def result(self) -> list[Saved]:
        self.finish()
        if isinstance(self._answers, DvctlError):
            raise self._answers
        return self._answers
