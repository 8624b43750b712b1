"""Tells systemd how the consumers of this process are: started, at work or waiting, alive, stopping."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING

from devicevault_cli.output.escapes import visible
from devicevault_cli.output.systemd import Notifier, notifier, watchdog_s

if TYPE_CHECKING:
    from devicevault_cli.consumer.progress import ConsumerProgress
    from devicevault_cli.consumer.shutdown import Stop

STEP_S = 1.0
START_S = 60
"""While a server is away at the start, systemd is asked again and again for so much more time."""


@contextmanager
def notified(
    consumers: Mapping[str, ConsumerProgress], stop: Stop, environ: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """Within the block a thread notifies the service manager, if there is one. `consumers`: by name of the pipeline."""
    manager = notifier(environ)
    if manager is None:
        yield
        return
    wanted = watchdog_s(environ)
    step = STEP_S if wanted is None else min(STEP_S, wanted / 3)
    arguments = manager, consumers, stop, step, wanted is not None
    thread = Thread(target=_notify, args=arguments, name="service-manager", daemon=True)
    thread.start()
    try:
        yield
    finally:
        manager.send("STOPPING=1", "STATUS=stopping")


def _notify(
    manager: Notifier, consumers: Mapping[str, ConsumerProgress], stop: Stop, step: float, watched: bool
) -> None:
    progress, started, status = list(consumers.values()), False, ""
    while not stop.wait(step):
        alive = all(one.alive for one in progress)
        states: list[str] = []
        if not started and all(one.ready for one in progress):
            started = manager.send("READY=1")
        elif not started and alive:
            states.append(f"EXTEND_TIMEOUT_USEC={START_S * 1_000_000}")
        if watched and alive:
            states.append("WATCHDOG=1")
        now = _status(consumers)
        if now != status:
            states.append(f"STATUS={now}")
        if states and manager.send(*states):
            status = now
    manager.send("STOPPING=1", "STATUS=finishing the current batch")


def _status(consumers: Mapping[str, ConsumerProgress]) -> str:
    """One line: with several pipelines each by its name."""
    lines = {name: _line(progress) for name, progress in consumers.items()}
    text = "; ".join(f"{name}: {line}" for name, line in lines.items()) if len(lines) > 1 else "".join(lines.values())
    return visible(text)


def _line(progress: ConsumerProgress) -> str:
    if not progress.alive:
        return "stuck in a call"
    if waiting := progress.outages.line():
        return waiting
    left = progress.backlog.left
    return f"consuming: {progress.counters.line()}, lag {'unknown' if left is None else left}"
