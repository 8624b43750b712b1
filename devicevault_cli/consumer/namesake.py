"""Does a process on another host of the same name consume under our name? By its connections, if they still speak.

Names are locked host by host (`operations/groups/consumer_name.py`), but two hosts, containers or network namespaces
may have one host name.
"""

from __future__ import annotations

import time

from devicevault_cli.consumer.shutdown import Stop, Stopped
from devicevault_cli.streams.clients import Namesake, namesakes_of
from devicevault_cli.streams.stream import Stream

DEAD_S = 10
"""A consumer sends a command every 5 s at the latest: a connection that is quiet for longer belongs to none that lives,
as that of an earlier process of ours whose host was cut off."""
OBSERVE_S = 6.0
"""How long a connection is observed that spoke a short while ago, perhaps for the last time."""
YIELD_S = 3.0
"""How long the one that connected first lets the other notice, and take another name, where both start at once."""
BETWEEN_S = 0.25


def living_namesake(stream: Stream, stop: Stop) -> Namesake | None:
    """A connection of another process under our consumer's name that has sent a command since this was called, or None.

    Nobody is found where Redis does not permit to list or name connections. Raises Unavailable, Stopped.
    """
    began, elapsed = time.monotonic(), 0.0
    while elapsed < OBSERVE_S:
        found = namesakes_of(stream)
        if found is None or not any(other.idle_s < DEAD_S for other in found.others):
            return None
        for other in found.others:
            # Redis counts whole seconds, rounded down.
            if other.idle_s + 1 <= elapsed and (other.number < found.own or elapsed >= YIELD_S):
                return other
        if stop.wait(BETWEEN_S):
            raise Stopped
        elapsed = time.monotonic() - began
    return None
