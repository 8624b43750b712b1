"""How signals end `dvctl consume`, and what else waits for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING

from devicevault_cli.errors import ExitCode

if TYPE_CHECKING:
    from devicevault_cli.consumer.shutdown import Stop


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
def stopped_by_signals(interrupts: Sequence[Callable[[], None]]) -> Iterator[Stop]:
    """The first SIGTERM or SIGINT requests the stop; a second one ends the process at once, which loses nothing.

    interrupts: what ends the calls in which a stuck consumer waits; each is called, even if another one fails.
    """
    from devicevault_cli.consumer.shutdown import Stop, ended_in_time

    stop = Stop()
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received:
            os._exit(ExitCode.INTERRUPTED)
        received.append(number)
        stop.set()

    def interrupt() -> None:
        with ExitStack() as every:
            for one in interrupts:
                every.callback(one)

    with ended_in_time(stop, interrupt):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)
        yield stop
