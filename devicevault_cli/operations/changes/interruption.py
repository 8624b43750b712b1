"""Ctrl-C and SIGTERM in commands that change something: a step whose outcome must be known is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The handler of both signals: raises KeyboardInterrupt, within `held` only at its end, or on a second signal."""

    def __init__(self) -> None:
        self._held = False
        self._asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._held or self._asked:
            raise KeyboardInterrupt
        self._asked = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Finish the block first, then raise KeyboardInterrupt if a signal arrived."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """SIGTERM ends the block as Ctrl-C does, so that files are removed and the journal is written."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption  # only the main thread may set handlers, and only it gets signals
        return
    # A signal that is ignored (nohup, a shell's background job) stays ignored.
    chosen = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interruption) for number in chosen}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
