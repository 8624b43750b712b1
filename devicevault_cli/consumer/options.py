"""How to consume: what the options of `dvctl consume` say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from devicevault_cli.operations.monitoring.limits import CLAIM_IDLE_MS, RECHECK_MS

OnReject: TypeAlias = Literal["dead-letter", "drop"]
OnMissingGroup: TypeAlias = Literal["create", "fail"]


@dataclass(frozen=True, slots=True)
class ConsumeOptions:
    """`max_wait_s` and `max_messages` None: no limit. `rate`: messages a second; None: no limit.

    `max_deliveries`: process an entry alone after so many; 0: never. `max_rejected_batches`: after so many whole
    batches that the database rejects, hold the next instead of giving up messages; 0: never. `retire_after_ms`: at the
    start, delete consumers that hold nothing and were idle for so long; None: none. `recheck_s`: after a fail-over of
    the database look up the entries of so many seconds again; 0: none.
    """

    drain: bool = False
    max_wait_s: float | None = None
    max_messages: int | None = None
    batch_size: int = 1000
    claim_idle_s: float = CLAIM_IDLE_MS / 1000
    max_deliveries: int = 10
    max_rejected_batches: int = 3
    on_reject: OnReject = "dead-letter"
    on_missing_group: OnMissingGroup = "create"
    rate: float | None = None
    retire_after_ms: int | None = None
    recheck_s: float = RECHECK_MS / 1000
