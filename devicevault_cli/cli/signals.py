"""How signals end `dvctl consume`, and what else waits for them."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING

from devicevault_cli.errors import ExitCode
from devicevault_cli.log_fields import fields

if TYPE_CHECKING:
    from devicevault_cli.consumer.shutdown import Stop

log = logging.getLogger("dvctl.consume")

LAST_LINE_S = 1.0
"""How long the log may take for the line of a second signal: its reader may be gone."""


def interrupted() -> None:
    """Wait for SIGTERM or SIGINT. The handlers are put back."""
    received: SimpleQueue[int] = SimpleQueue()
    handlers = {
        number: signal.signal(number, lambda number, _: received.put(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        received.get()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def stopped_by_signals(interrupts: Sequence[Callable[[], None]], in_hand: Callable[[], int]) -> Iterator[Stop]:
    """The first SIGTERM or SIGINT requests the stop; a second one ends the process at once, which loses nothing.

    interrupts: what ends the calls in which a stuck consumer waits; each is called, even if another one fails.
    in_hand: how many entries have no outcome yet, and stay pending if the process ends now.
    """
    from devicevault_cli.consumer.shutdown import Stop, ended_in_time

    stop = Stop()
    received: list[int] = []
    # The handler itself must not log: the thread that it interrupts may hold the locks of the log.
    again, logged = SimpleQueue[int](), SimpleQueue[None]()

    def log_the_end() -> None:
        name, left = signal.Signals(again.get()).name, in_hand()
        text = "ended at once by a second signal (%s): %d %s pending"
        log.warning(
            text, name, left, "entry stays" if left == 1 else "entries stay", extra=fields(reason="signal", count=left)
        )
        logged.put(None)

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            again.put(number)
            with suppress(Empty):
                logged.get(timeout=LAST_LINE_S)
            os._exit(ExitCode.INTERRUPTED)
        received.append(number)
        stop.set()

    def interrupt() -> None:
        with ExitStack() as every:
            for one in interrupts:
                every.callback(one)

    Thread(target=log_the_end, name="second-signal", daemon=True).start()
    with ended_in_time(stop, interrupt):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)
        yield stop
