"""One chaos run: servers, proxies, producer and consumers together; then peace, a drain, and oracle E."""

from __future__ import annotations

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.chaos.faults import KINDS, STORAGE_KINDS, World, make_faults
from tests.chaos.fleet import Fleet
from tests.chaos.producer import EVERY_S, Producer
from tests.chaos.storage import storage_side
from tests.support.guard import guarded_directory
from tests.support.messages import Sent
from tests.support.oracle import TABLE, Findings, everything
from tests.support.postgres_server import PostgresServer, postgres_kinds
from tests.support.proxy import DatabaseProxy, RedisProxy
from tests.support.redis_server import RedisServer, redis_kinds
from tests.support.rows import select
from tests.support.server import wait_until

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
"""So that Redis forgets nothing that it has answered: what is missing afterwards is dvctl's loss."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides a run: the same plan gives the same faults and messages, though not to the millisecond.

    `every_s`: between two bursts of messages.
    """

    seed: int
    seconds: float
    consumers: int = 4
    kinds: tuple[str, ...] = tuple(KINDS)
    mutant: str | None = None
    drain_s: float = 90.0
    redis: str | None = None
    dispatch: bool = False
    every_s: float = EVERY_S

    def command(self) -> str:
        """The command line that repeats the run."""
        words = [f"python -m tests.chaos --seconds {self.seconds:g} --seed {self.seed}"]
        words += [f"--consumers {self.consumers}"] if self.consumers != 4 else []
        words += ["--dispatch"] if self.dispatch else []
        words += [f"--only {' '.join(self.kinds)}"] if self.kinds != default_kinds(self.dispatch) else []
        words += [f"--redis {self.redis}"] if self.redis else []
        words += [f"--mutant {self.mutant}"] if self.mutant else []
        return " ".join(words)


def default_kinds(dispatch: bool) -> tuple[str, ...]:
    """The faults of a run, unless it is told otherwise."""
    return (*KINDS, *STORAGE_KINDS) if dispatch else tuple(KINDS)


@dataclass(slots=True)
class Report:
    """What a run came to."""

    plan: Plan
    findings: Findings
    sent: list[Sent]
    drained: bool
    hit: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)
    last_words: list[str] = field(default_factory=list)
    storage: str = ""

    @property
    def ok(self) -> bool:
        """Everything once; a drain that did not end proves nothing and is no pass."""
        return self.drained and self.findings.ok and bool(self.sent) and not self.others

    def lost_good(self) -> list[str]:
        """Good messages that have neither a row nor a letter."""
        lost = set(self.findings.lost)
        return [one.id for one in self.sent if one.id in lost and one.message.reason is None]

    def __str__(self) -> str:
        found = self.findings
        lines = [
            f"published {found.published}, rows {found.rows}, dead {found.dead}, "
            f"lost {len(found.lost)}, duplicates {len(found.duplicates)}",
            f"faults {sum(self.hit.values())}: {', '.join(f'{kind} {n}' for kind, n in sorted(self.hit.items()))}",
        ]
        lines += [self.storage] if self.storage else []
        lines += [f"not hit: {', '.join(missed)}"] if (missed := sorted(set(self.plan.kinds) - set(self.hit))) else []
        lines += [] if self.drained else [f"inconclusive: not drained within {self.plan.drain_s:g} s"]
        lines += [f"{name}: {examples}" for name, examples in found.problems().items()]
        return "\n".join(
            [*lines, *self.others, *self.last_words, f"{'ok' if self.ok else 'FAILED'}; again: {self.plan.command()}"]
        )


Servers: TypeAlias = tuple[RedisServer, PostgresServer]


@contextmanager
def servers(version: str | None = None) -> Iterator[Servers]:
    """A Redis and a PostgreSQL that keep what they have answered, whatever happens to them."""
    kind = next(kind for kind in redis_kinds() if version in (None, kind.short))
    redis, postgres = RedisServer(kind, *ALWAYS), PostgresServer(postgres_kinds()[0], durable=True)
    try:
        yield redis.start(), postgres.start()
    finally:
        redis.remove()
        postgres.remove()


def run_once(plan: Plan) -> Report:
    """A run on servers of its own."""
    with servers(plan.redis) as (redis, postgres):
        return run(plan, redis, postgres)


def run(plan: Plan, redis: RedisServer, postgres: PostgresServer) -> Report:
    """A run on an emptied Redis and a fresh database."""
    redis.fresh()
    url = postgres.database()
    with (
        tempfile.TemporaryDirectory(prefix="chaos-", dir=guarded_directory()) as directory,
        storage_side(Path(directory), url) if plan.dispatch else nullcontext() as storage,
        RedisProxy(redis.url) as redis_proxy,
        DatabaseProxy(url) as database_proxy,
    ):
        environment = storage.environment if storage else {}
        fleet = Fleet(Path(directory), redis_proxy.url, database_proxy.url, plan.mutant, **environment)
        chance = random.Random(plan.seed)
        world = World(redis, postgres, redis_proxy, database_proxy, fleet, chance, storage=storage)
        try:
            with Producer(redis, plan.seed, plan.every_s) as producer:
                _begin(plan, fleet, url)
                make_faults(world, plan.kinds, plan.seconds, fleet.look)
            drained = fleet.drain(plan.drain_s)
            fleet.stop()
        finally:
            fleet.kill_all()
        sent = producer.sent()
        findings = everything(redis.url, url, sent)
        not_stored = storage.findings(url, sent) if storage else []
        told = storage.told(sent) if storage else ""
    others = [*fleet.findings, *producer.failures, *not_stored]
    return Report(plan, findings, sent, drained, world.hit, others, fleet.last_words, told)


def _begin(plan: Plan, fleet: Fleet, url: str) -> None:
    """Start the consumers and wait until they are at work: a fault before that hits nobody."""
    for _ in range(plan.consumers):
        fleet.start()
    wait_until(lambda: select(url, f"SELECT 1 FROM {TABLE} LIMIT 1"), timeout=60, what="the first row")
    time.sleep(0.5)
