"""Tells systemd how the consumers of this process are: started, at work or waiting, alive, stopping."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, Thread
from typing import TYPE_CHECKING

from devicevault_cli.cli.reporting import as_dvctl_error
from devicevault_cli.output.escapes import visible
from devicevault_cli.output.systemd import Notifier, notifier, watchdog_s
from devicevault_cli.redact import scrub

if TYPE_CHECKING:
    from devicevault_cli.consumer.progress import ConsumerProgress
    from devicevault_cli.consumer.shutdown import Stop
    from devicevault_cli.consumer.streams_progress import StreamsProgress

STEP_S = 1.0
START_S = 60
"""While a server is away at the start, systemd is asked again and again for so much more time."""


@contextmanager
def notified(
    consumers: Mapping[str, ConsumerProgress | StreamsProgress], stop: Stop, environ: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """Within the block a thread notifies the service manager, if there is one; the last status says how it ended.

    `consumers`: by name of the pipeline; empty until the consumers are made, which belongs to the start.
    """
    manager = notifier(environ)
    if manager is None:
        yield
        return
    wanted = watchdog_s(environ)
    step = STEP_S if wanted is None else min(STEP_S, wanted / 3)
    service = _Service(manager, consumers, watched=wanted is not None)
    Thread(target=service.run, args=(stop, step), name="service-manager", daemon=True).start()
    try:
        yield
    except BaseException as error:
        service.end(f"failed: {_cause(error)}")
        raise
    service.end(_status(consumers))


class _Service:
    """What was sent so far. Nothing follows the last status, although a thread of its own sends all others."""

    def __init__(
        self, manager: Notifier, consumers: Mapping[str, ConsumerProgress | StreamsProgress], *, watched: bool
    ) -> None:
        self._manager = manager
        self._consumers = consumers
        self._watched = watched
        self._sending = Lock()
        self._ended = self._started = False
        self._status = ""

    def run(self, stop: Stop, step: float) -> None:
        """Notify every `step` seconds, until a stop is requested or the service has ended."""
        self._notify()
        while not stop.wait(step) and not self._ended:
            self._notify()
        self._send("STOPPING=1", "STATUS=finishing the current batch")

    def end(self, status: str) -> None:
        """Send the last status."""
        with self._sending:
            self._ended = True
            self._manager.send("STOPPING=1", f"STATUS={visible(status)}")

    def _notify(self) -> None:
        progress = list(self._consumers.values())
        alive = all(one.alive for one in progress)
        states: list[str] = []
        if not self._started and progress and all(one.ready for one in progress):
            self._started = self._send("READY=1")
        elif not self._started and alive:
            states.append(f"EXTEND_TIMEOUT_USEC={START_S * 1_000_000}")
        if self._watched and alive:
            states.append("WATCHDOG=1")
        status = _status(self._consumers)
        if status != self._status:
            states.append(f"STATUS={status}")
        if states and self._send(*states):
            self._status = status

    def _send(self, *states: str) -> bool:
        with self._sending:
            return not self._ended and self._manager.send(*states)


def _cause(error: BaseException) -> str:
    return scrub(str(as_dvctl_error(error))) if isinstance(error, Exception) else "interrupted"


def _status(consumers: Mapping[str, ConsumerProgress | StreamsProgress]) -> str:
    """One line: with several pipelines each by its name."""
    lines = {name: _line(progress) for name, progress in list(consumers.items())}
    if len(lines) > 1:
        return visible("; ".join(f"{name}: {line}" for name, line in lines.items()))
    return visible("".join(lines.values()) or "starting")


def _line(progress: ConsumerProgress | StreamsProgress) -> str:
    if progress.stopped_by:
        return f"stopped ({progress.stopped_by}): {progress.counters.line()}"
    if not progress.alive:
        return "stuck in a call"
    if waiting := progress.waits_for:
        return waiting
    if not progress.has_read:
        return "starting"
    left = progress.left
    return f"consuming: {progress.counters.line()}, lag {'unknown' if left is None else left}"
