"""One line that moves: how far, how fast, how long still. Only on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TextIO, TypeAlias

from devicevault_cli.output.escapes import visible

if TYPE_CHECKING:
    from threading import RLock

    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

INTERVAL_S = 0.1


class Progress:
    """Call it with what is done, and the total where that changes. Silent where `stream` is None.

    `lock` is held while it draws: other threads may draw too, and write lines.
    """

    def __init__(self, stream: TextIO | None, label: str, total: int | None, width: int, lock: RLock) -> None:
        self._stream = stream
        self._lock = lock
        self._label = visible(label)
        self._total = total
        self._width = width
        self._drawn = 0.0
        self._bar: Bar | None = None
        self._shown = False
        self._closed = False

    def __call__(self, done: int, total: int | None = None, note: str = "") -> None:
        """Draw anew, ten times a second at most."""
        self._total = total if total is not None else self._total
        if self._stream is None:
            return
        with self._lock:
            now = time.monotonic()
            if self._stream is None or self._closed or now - self._drawn < INTERVAL_S:
                return
            self._drawn = now
            try:
                self._draw(self._stream, done, note)
            except (OSError, ValueError):
                self._stream = None  # the terminal is gone, and the work goes on

    def _draw(self, stream: TextIO, done: int, note: str) -> None:
        if self._bar is None:
            self._bar = _bar(stream, self._width)
            self._bar.add_task(self._label, note="")
        if not self._shown:
            self._shown = True
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=self._total, note=visible(note))
        self._bar.refresh()

    def clear(self) -> None:
        """Take the line away, for other text or at the end."""
        with self._lock:
            if self._bar is not None and self._shown:
                self._shown = False
                with suppress(OSError, ValueError):
                    self._bar.stop()

    def close(self) -> None:
        """Erase the line for good: who still counts afterwards draws nothing that nobody would erase."""
        with self._lock:
            self.clear()
            self._closed = True


Show: TypeAlias = Callable[[int, int | None, str], None]
"""(done, total, note)"""


def combined(show: Show, names: Iterable[str]) -> dict[str, Show]:
    """One line for several parts, each of which counts in a thread of its own: sums, and the notes by name."""
    parts: dict[str, tuple[int, int | None, str]] = dict.fromkeys(names, (0, None, ""))

    def show_part(name: str, done: int, total: int | None, note: str) -> None:
        parts[name] = (done, total, note)
        totals = [total for _, total, _ in parts.values() if total is not None]
        notes = ", ".join(f"{name} {note}" for name, (*_, note) in parts.items() if note)
        show(sum(done for done, *_ in parts.values()), sum(totals) if len(totals) == len(parts) else None, notes)

    return {name: partial(show_part, name) for name in parts}


def _bar(stream: TextIO, width: int) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.theme import Theme

    # A bar is neither good nor bad: no colours, where Rich has red, green and cyan.
    none = dict.fromkeys(("bar.pulse", "progress.download", "progress.remaining"), "none")
    plain = Theme({"bar.back": "dim", "bar.complete": "bold", "bar.finished": "bold"} | none)
    console = Console(
        file=stream, width=width, force_terminal=True, theme=plain, highlight=False, markup=False, emoji=False
    )
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(20),
        MofNCompleteColumn(),
        _rate_column(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    return Bar(
        *columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )


def _rate_column() -> ProgressColumn:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f}/s")

    return Rate()
