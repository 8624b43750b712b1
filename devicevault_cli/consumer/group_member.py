"""A consumer's place in its group: made where it is missing, shown to be alive, given up at the end."""

from __future__ import annotations

import logging

from devicevault_cli.consumer.options import OnMissingGroup
from devicevault_cli.consumer.shutdown import Stopped
from devicevault_cli.consumer.stream_watch import StreamWatch
from devicevault_cli.errors import DvctlError, MissingGroup
from devicevault_cli.log_fields import fields
from devicevault_cli.operations.monitoring.liveness import (
    Liveness,
    devicevault_consumers,
    foreign_consumer,
    liveness_of,
    waiting_clients,
)
from devicevault_cli.operations.wording import entries, some
from devicevault_cli.plural import number
from devicevault_cli.streams.consumer import GroupConsumer
from devicevault_cli.streams.model import ZERO
from devicevault_cli.times import exact_duration

log = logging.getLogger("dvctl.consume")


class GroupMember:
    """One consumer of one group."""

    def __init__(self, consumer: GroupConsumer, watch: StreamWatch, on_missing_group: OnMissingGroup) -> None:
        self._consumer = consumer
        self._watch = watch
        self._group = consumer.group
        self._on_missing_group = on_missing_group

    def join(self) -> None:
        """See that the group is there. Raises MissingGroup where it is not, and not to be made."""
        self._watch.look()  # once the group is made, nobody can tell any more what it was
        if self._on_missing_group == "fail":
            if self._group.info() is None:
                raise MissingGroup(f"no group {self._group.name} on {self._consumer.stream.key}")
        elif self._group.create():
            self._warn_of_creation()

    def _warn_of_creation(self) -> None:
        info = self._consumer.stream.info()
        names = self._group.name, self._consumer.stream.key
        if info is None or not info.length:
            log.warning('created consumer group "%s" on stream "%s", which is empty', *names, extra=fields(count=0))
        else:
            log.warning(
                'created consumer group "%s" at the start of stream "%s": %s will be delivered;'
                " messages that already have a row are skipped",
                *names,
                entries(info.length),
                extra=fields(count=info.length),
            )

    def take_part(self) -> None:
        """Use the rights that consuming needs, before anything depends on them: make the group, read past its end."""
        self._consumer.stream.check_scripts()
        self.join()
        self._consumer.show_life()
        self._consumer.renew({})
        self._group.pending(count=1)
        self._group.acknowledge([ZERO])

    def retire_idle(self, idle_ms: int) -> None:
        """Delete the consumers that hold nothing and were idle for so long, as those of pods that are gone."""
        if names := self._group.delete_idle(idle_ms, self._consumer.consumer):
            text = "retired %s that held nothing and had been idle for %s: %s"
            gone, since = number(len(names), "consumer"), exact_duration(idle_ms)
            log.info(text, gone, since, some(names), extra=fields(count=len(names)))

    def warn_of_others(self, *, unique_index: bool) -> None:
        """Of what is dangerous beside this consumer: DeviceVault's own, and a Redis that forgets."""
        if self._consumer.stream.eviction_policy().startswith("allkeys"):
            text = "Redis may evict the whole stream (maxmemory-policy allkeys-*); set it to noeviction"
            log.warning(text, extra=fields(reason="eviction-policy"))
        if unique_index:
            return
        liveness, own = liveness_of(self._group), self._consumer.consumer
        if danger := foreign_consumer(liveness, own) or _waiting(liveness, own):
            log.warning("%s; stop it, or run `dvctl db index`: only a unique index prevents duplicate rows", danger)
        elif liveness.clients is not None:
            for other in liveness.unclear:
                if other.name != own:
                    log.info("consumer %s is alive in this group; its connection has no name of dvctl's", other.name)

    def leave(self) -> bool:
        """Delete the consumer if it holds nothing. -> whether Redis answered"""
        name = self._consumer.consumer
        try:
            if not self._group.retire_if_empty(name):
                log.info("consumer %s keeps its pending entries and its name", name)
        except (DvctlError, Stopped) as error:
            log.warning("consumer %s could not be retired: %s", name, error)
            return False
        return True


def _waiting(liveness: Liveness, own: str) -> str:
    """A sentence about clients that wait and are, or may be, DeviceVault's own consumer; '' if there are none."""
    found = [other for other in devicevault_consumers(liveness) if other.name != own]
    waits = liveness.certain or liveness.unlisted or any(other in liveness.candidates for other in found)
    return waiting_clients(liveness) if waits else ""
