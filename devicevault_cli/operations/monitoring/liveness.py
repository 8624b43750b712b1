"""Which consumers of a group are alive: by their last command, or by the clients blocked in XREADGROUP."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from devicevault_cli.errors import ConsumerAlive, DvctlError
from devicevault_cli.operations.wording import some
from devicevault_cli.pipelines import PIPELINES, is_devicevaults_own
from devicevault_cli.streams.clients import Clients, clients_of, is_unnamed
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ConsumerInfo
from devicevault_cli.streams.stream import Stream

ALIVE_MS = 10_000
"""A consumer that sent a command within this time is alive."""
SLACK_MS = 2000
"""CLIENT LIST counts whole seconds, and the consumers are read a moment earlier."""
_HOST_N = re.compile(r".+-[0-9]{1,3}", re.DOTALL)
"""The names of dvctl's consumers, which before 1.0 did not name their connections."""


@dataclass
class Liveness:
    """The consumers of one group at one moment.

    A consumer that is blocked in XREADGROUP sends no command: before Redis 7.2 its idle time grows although it is
    alive, and it is not listed before its first message. CLIENT LIST shows blocked clients, but not of which group.
    """

    group: Group
    consumers: Sequence[ConsumerInfo]

    @cached_property
    def clients(self) -> Clients | None:
        """The clients of Redis; None if CLIENT LIST is not permitted. Read only if needed."""
        return clients_of(self.group.stream)

    @property
    def names(self) -> list[str]:
        return [consumer.name for consumer in self.consumers]

    @property
    def recent(self) -> list[ConsumerInfo]:
        """Consumers whose last command is recent."""
        return [consumer for consumer in self.consumers if consumer.idle_ms < ALIVE_MS]

    @cached_property
    def candidates(self) -> list[ConsumerInfo]:
        """Consumers without a recent command that may be one of the blocked clients."""
        quiet = [consumer for consumer in self.consumers if consumer.idle_ms >= ALIVE_MS]
        return [consumer for consumer in quiet if self.clients and _may_wait(consumer, self.clients)]

    @property
    def unlisted(self) -> bool:
        """Whether a blocked client may be a consumer of this group that has had no message yet."""
        if self.recent or self.candidates or not (self.clients and self.clients.waiting):
            return False
        return not self._lists_the_waiting and len(self.clients.waiting) > self._elsewhere

    def alive(self, consumer: ConsumerInfo) -> bool | None:
        """Whether a consumer is alive; None if unknown."""
        if consumer.idle_ms < ALIVE_MS:
            return True
        if self.clients is None:
            return None
        if consumer not in self.candidates:
            return False
        return True if self.certain and len(self.candidates) == 1 else None

    @cached_property
    def certain(self) -> bool:
        """Whether a blocked client must be a candidate: it can be no other consumer."""
        if self.clients is None or not self.candidates:
            return False
        return not self._recent_unnamed and len(self.clients.waiting) > self._elsewhere

    @cached_property
    def _recent_unnamed(self) -> list[ConsumerInfo]:
        """Consumers with a recent command of which no connection has the name, as those of `dvctl consume` have."""
        if self.clients is None:
            return []
        return [consumer for consumer in self.recent if consumer.name not in self.clients.consumers]

    @cached_property
    def foreign(self) -> list[ConsumerInfo]:
        """Consumers that are alive and surely not `dvctl consume`, whatever their names."""
        if self.certain and len(self.candidates) == 1:
            return self.candidates
        if not self._others_work or is_unnamed(self.group.stream.client):
            return []
        return [consumer for consumer in self._recent_unnamed if not _HOST_N.fullmatch(consumer.name)]

    @property
    def unclear(self) -> list[ConsumerInfo]:
        """Consumers with a recent command that may be DeviceVault's own, or dvctl without a name in CLIENT LIST."""
        if self.clients is None:
            return self.recent
        return [one for one in self._recent_unnamed if one not in self.foreign] if self._others_work else []

    @cached_property
    def _others_work(self) -> bool:
        """Whether a client that has no name of dvctl's must be a consumer of this group: it can be none elsewhere.

        A consumer of dvctl that has just been killed has a recent command, but no such client.
        """
        return self.clients is not None and self.clients.working > self._working_elsewhere

    @cached_property
    def _lists_the_waiting(self) -> bool:
        """Whether a consumer is listed as soon as it blocks: from Redis 7.2 on."""
        if self.consumers:
            return self.consumers[0].inactive_ms is not None
        with suppress(DvctlError, ValueError):
            version = self.group.stream.server_info("server").get("redis_version", "0")
            return tuple(map(int, version.split(".")[:2])) >= (7, 2)
        return False

    @property
    def _elsewhere(self) -> int:
        """How many consumers of other groups may be blocked clients."""
        return sum(bool(self.clients and _may_wait(other, self.clients)) for other in self._others)

    @property
    def _working_elsewhere(self) -> int:
        """How many consumers of other groups may be clients that are not dvctl and do a consumer's work."""
        named = self.clients.consumers if self.clients else frozenset()
        alive = (other for other in self._others if other.idle_ms < ALIVE_MS and other.name not in named)
        return max(sum(1 for _ in alive), self._elsewhere)

    @cached_property
    def _others(self) -> list[ConsumerInfo]:
        """The consumers of other groups, in the streams that this user may read."""
        found: list[ConsumerInfo] = []
        for key in {self.group.stream.key, *(pipeline.stream for pipeline in PIPELINES.values())}:
            with suppress(DvctlError):
                stream = Stream(self.group.stream.client, key)
                for info in stream.groups():
                    if (key, info.name) != (self.group.stream.key, self.group.name):
                        found += Group(stream, info.name).consumers()
        return found


def liveness_of(group: Group) -> Liveness:
    """Read the consumers of a group. Raises MissingGroup."""
    return Liveness(group, group.consumers())


def _may_wait(consumer: ConsumerInfo, clients: Clients) -> bool:
    """From 7.2 on, XREADGROUP resets the idle time as it blocks: a consumer idle for longer is not blocked."""
    if consumer.name in clients.consumers:
        return False  # dvctl sends commands while it waits
    since_ms = 0 if consumer.inactive_ms is None else consumer.idle_ms - SLACK_MS
    return any(since_ms <= client.idle_ms for client in clients.waiting)


def devicevault_consumers(liveness: Liveness) -> list[ConsumerInfo]:
    """The consumers with names of DeviceVault's own, without those that `dvctl consume` runs under such a name."""
    ours = liveness.clients.consumers if liveness.clients else frozenset()
    return [found for found in liveness.consumers if is_devicevaults_own(found.name) and found.name not in ours]


def foreign_consumer(liveness: Liveness, own: str = "") -> str:
    """A sentence about a consumer of the group that is alive and not `dvctl consume`; '' if there is none.

    own: the name of the consumer that asks.
    """
    named = [consumer for consumer in devicevault_consumers(liveness) if consumer.name != own]
    if alive := [consumer.name for consumer in named if liveness.alive(consumer)]:
        return f"DeviceVault's own consumer {alive[0]} is alive in this group"
    if others := [consumer.name for consumer in liveness.foreign if consumer.name != own]:
        return f"consumer {others[0]} is alive in this group and is not `dvctl consume`"
    return ""


def waiting_clients(liveness: Liveness) -> str:
    """A sentence about the blocked clients that are, or may be, consumers of the group; '' without any."""
    if not (liveness.candidates or liveness.unlisted) or liveness.clients is None:
        return ""
    names = [consumer.name for consumer in liveness.candidates]
    if names and liveness.alive(liveness.candidates[0]):
        return f"{names[0]} of {liveness.group.name} is alive: it waits for messages in XREADGROUP"
    addresses = [client.address for client in liveness.clients.waiting]
    one = len(addresses) == 1
    who = _either(names) if names else "a consumer that has had no message yet"
    return (
        f"{'a client' if one else f'{len(addresses)} clients'} ({', '.join(addresses[:3])}) "
        f"{'waits' if one else 'wait'} in XREADGROUP in this Redis database and may be {who} of {liveness.group.name}"
    )


def _either(names: Sequence[str]) -> str:
    shown = [*names[:3], *([f"{len(names) - 3:,} more"] if len(names) > 3 else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def refusal(liveness: Liveness, *, recent: bool = True) -> ConsumerAlive | None:
    """Why a group must not be changed, if it must not. `recent` False: ignore consumers with a recent command."""
    if recent and liveness.recent:
        names = [f"{consumer.name} (idle {consumer.idle_ms / 1000:.1f} s)" for consumer in liveness.recent]
        return ConsumerAlive(
            f"{some(names)} of {liveness.group.name} {'is' if len(names) == 1 else 'are'} alive",
            hint=f"stop the consumers, wait {ALIVE_MS // 1000} s, or add --force",
        )
    if waits := waiting_clients(liveness):
        return ConsumerAlive(waits, hint="stop it, or add --force if it does not belong to this group")
    return None


def not_known(liveness: Liveness) -> list[str]:
    """A line for a plan if Redis does not permit listing the blocked clients."""
    if liveness.recent or liveness.clients is not None:
        return []
    return ["whether a consumer waits for messages is unknown: Redis does not permit CLIENT LIST"]
