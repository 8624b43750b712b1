"""A consumer's place in its group: made where it is missing, shown to be alive, given up at the end."""

from __future__ import annotations

import logging
from typing import Literal

from devicevault_cli.errors import DvctlError, MissingGroup
from devicevault_cli.operations.consumer.stop import Stopped
from devicevault_cli.operations.status import ALIVE_MS
from devicevault_cli.pipelines import is_devicevaults_own
from devicevault_cli.streams.delivery import Delivery
from devicevault_cli.streams.model import ZERO

log = logging.getLogger("dvctl.consume")

OnMissingGroup = Literal["create", "fail"]


class Membership:
    """Of one consumer in one group."""

    def __init__(self, delivery: Delivery, on_missing_group: OnMissingGroup) -> None:
        self._delivery = delivery
        self._group = delivery.group
        self._on_missing_group = on_missing_group

    def join(self) -> None:
        """See that the group is there. Raises MissingGroup where it is not, and not to be made."""
        if self._on_missing_group == "fail":
            if self._group.info() is None:
                raise MissingGroup(f"no group {self._group.name} on {self._delivery.stream.key}")
        elif self._group.create():
            log.warning(
                "group %s of %s was missing: created at 0, so every entry comes again; rows that are there stay single",
                self._group.name,
                self._delivery.stream.key,
            )

    def take_part(self) -> None:
        """Use the rights that consuming needs, before anything depends on them: make the group, read past its end."""
        self._delivery.stream.check_scripts()
        self.join()
        self._delivery.show_life()
        self._delivery.hold({})
        self._group.pending(count=1)
        self._group.acknowledge([ZERO])

    def warn_of_others(self, *, unique_index: bool) -> None:
        """Of what is dangerous beside this consumer: DeviceVault's own, and a Redis that forgets."""
        if self._delivery.stream.eviction_policy().startswith("allkeys"):
            log.warning("Redis may evict the whole stream (maxmemory-policy allkeys-*); set it to noeviction")
        for other in self._group.consumers():
            if is_devicevaults_own(other.name) and other.idle_ms < ALIVE_MS and not unique_index:
                log.warning(
                    "DeviceVault's own consumer %s is alive in this group: stop it, or run `dvctl db index`; "
                    "only a unique index keeps its rows and dvctl's apart",
                    other.name,
                )

    def leave(self) -> None:
        """Leave no ghost: a consumer that holds nothing is deleted."""
        name = self._delivery.consumer
        try:
            if not self._group.retire_if_empty(name):
                log.info("consumer %s keeps its pending entries and its name", name)
        except (DvctlError, Stopped) as error:
            log.warning("consumer %s could not be retired: %s", name, error)
