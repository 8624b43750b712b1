"""Several consumers in one process, each in a thread of its own that is named after its pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any, NamedTuple, TypeAlias

from devicevault_cli.consumer.shutdown import Stop

log = logging.getLogger("dvctl.consume")

OTHER_PIPELINE = "other-pipeline"
"""`stopped_by` of a consumer that ended because another one could not go on."""

Summary: TypeAlias = dict[str, Any]


class _Ended(NamedTuple):
    name: str
    summary: Summary
    error: BaseException | None = None


def consume_together(consumers: Mapping[str, Callable[[], Summary]], stop: Stop) -> dict[str, Summary]:
    """Run each until it ends by itself. -> their summaries, by name

    An error, or a group that is missing, ends the others in order; the first error is raised once all have ended.
    """
    if len(consumers) == 1:
        return {name: consume() for name, consume in consumers.items()}
    ended: SimpleQueue[_Ended] = SimpleQueue()
    threads = [Thread(target=_run, args=(*one, stop, ended), name=one[0], daemon=True) for one in consumers.items()]
    for thread in threads:
        thread.start()
    # Not Thread.join: a signal handler may run while a SimpleQueue is waited for, on every version of Python.
    results = [ended.get() for _ in threads]
    for thread in threads:
        thread.join()
    if error := next((result.error for result in results if result.error is not None), None):
        raise error
    found = {result.name: result.summary for result in results}
    return {name: found[name] for name in consumers}


def _run(name: str, consume: Callable[[], Summary], stop: Stop, ended: SimpleQueue[_Ended]) -> None:
    try:
        summary = consume()
    except BaseException as error:  # noqa: BLE001 - raised in the main thread
        log.error("%s; the other pipeline ends too", error)
        stop.set(OTHER_PIPELINE)
        ended.put(_Ended(name, {}, error))
        return
    if summary["stopped_by"] == "missing-group":
        stop.set(OTHER_PIPELINE)
    ended.put(_Ended(name, summary))
