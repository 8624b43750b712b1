"""The faults of a chaos run: what each does, and what ends it later. Kinds come in shuffled decks, so all are hit."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.chaos import storage
from tests.chaos.fleet import CLAIM_IDLE_S, Fleet
from tests.support.postgres_server import PostgresServer
from tests.support.proxy import DatabaseProxy, Loss, RedisProxy
from tests.support.redis_server import RedisServer

Heal = Callable[[], object]


@dataclass(slots=True)
class World:
    """What faults happen to. `storage`: in a run with storage dispatch."""

    redis: RedisServer
    postgres: PostgresServer
    redis_proxy: RedisProxy
    database_proxy: DatabaseProxy
    fleet: Fleet
    chance: random.Random
    hit: Counter[str] = field(default_factory=Counter)
    losses: list[tuple[str, Loss]] = field(default_factory=list)
    storage: storage.StorageSide | None = None


def kill(world: World) -> None:
    world.fleet.kill(world.chance, comes_back=True)


def vanish(world: World) -> None:
    world.fleet.kill(world.chance, comes_back=False)


def terminate(world: World) -> None:
    world.fleet.terminate(world.chance)


def freeze(world: World) -> Heal:
    """Longer than the claim-idle time: its entries are taken over before it goes on."""
    name = world.fleet.freeze(world.chance)
    return lambda: world.fleet.thaw(name)


def redis_kill(world: World) -> Heal:
    world.redis.kill9()
    return world.redis.start


def redis_freeze(world: World) -> Heal:
    world.redis.freeze()
    return world.redis.thaw


def postgres_restart(world: World) -> Heal:
    world.postgres.stop("immediate")
    return world.postgres.start


def postgres_freeze(world: World) -> Heal:
    world.postgres.freeze()
    return world.postgres.thaw


def cut(world: World) -> None:
    """Reset every connection of every consumer."""
    world.redis_proxy.cut()
    world.database_proxy.cut()


def lost_read(world: World) -> None:
    _lose(world, "lost-read", world.redis_proxy.lose_reply("XREADGROUP"))


def lost_ack(world: World) -> None:
    _lose(world, "lost-ack", world.redis_proxy.lose_reply("XACK"))


def lost_letter(world: World) -> None:
    _lose(world, "lost-letter", world.redis_proxy.lose_reply("EVAL", containing=b"_dvctl.reason"))


def lost_commit(world: World) -> None:
    _lose(world, "lost-commit", world.database_proxy.lose_reply(b"COMMIT"))


def _lose(world: World, kind: str, loss: Loss) -> None:
    world.losses.append((kind, loss))


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault, how long it lasts, and on what only one fault can be at a time."""

    begin: Callable[[World], Heal | None]
    seconds: tuple[float, float] = (0.0, 0.0)
    on: str = ""


KINDS: dict[str, Kind] = {
    "kill": Kind(kill),
    "vanish": Kind(vanish),
    "terminate": Kind(terminate),
    "freeze": Kind(freeze, (CLAIM_IDLE_S + 0.5, CLAIM_IDLE_S + 2.0), "fleet"),
    "redis-kill": Kind(redis_kill, (0.1, 1.0), "redis"),
    "redis-freeze": Kind(redis_freeze, (0.3, 1.2), "redis"),
    "postgres-restart": Kind(postgres_restart, (0.1, 1.0), "postgres"),
    "postgres-freeze": Kind(postgres_freeze, (0.5, 1.5), "postgres"),
    "cut": Kind(cut),
    "lost-read": Kind(lost_read),
    "lost-ack": Kind(lost_ack),
    "lost-letter": Kind(lost_letter),
    "lost-commit": Kind(lost_commit),
}
STORAGE_KINDS: dict[str, Kind] = {
    "broker-kill": Kind(storage.broker_kill, (0.1, 1.0), "broker"),
    "broker-stop": Kind(storage.broker_stop, (0.1, 1.0), "broker"),
    "broker-freeze": Kind(storage.broker_freeze, (0.5, 3.0), "broker"),
    "broker-alarm": Kind(storage.broker_alarm, (1.0, 3.0), "broker"),
    "broker-cut": Kind(storage.broker_cut),
    "lost-confirm": Kind(storage.lost_confirm),
    "worker-kill": Kind(storage.worker_kill),
    "storage-kill": Kind(storage.storage_kill),
}
ALL_KINDS = KINDS | STORAGE_KINDS
"""Those of STORAGE_KINDS need a run with storage dispatch."""


def make_faults(world: World, kinds: Sequence[str], seconds: float, tick: Callable[[], None]) -> None:
    """Faults one after the other, outages overlapping with what happens to consumers; all healed at the end.

    On a busy machine it takes longer than was asked for, until each kind has had its turn.
    """
    deck = _deck(kinds, world.chance)
    healing: dict[str, tuple[float, Heal]] = {}
    left = len(kinds)
    end = time.monotonic() + seconds
    due = 0.0
    try:
        while (now := time.monotonic()) < end or left > 0:
            _heal(healing, now)
            if now >= due:
                _begin(world, next(deck), healing, now)
                due = now + world.chance.uniform(0.1, 0.4)
                left -= 1
            tick()
            time.sleep(0.05)
    finally:
        _heal(healing, float("inf"))
    world.hit.update(kind for kind, loss in world.losses if loss.happened.is_set())


def _begin(world: World, name: str, healing: dict[str, tuple[float, Heal]], now: float) -> None:
    kind = ALL_KINDS[name]
    lasts = world.chance.uniform(*kind.seconds)
    if kind.on and kind.on in healing:
        _heal({kind.on: healing.pop(kind.on)}, float("inf"))
    heal = kind.begin(world)
    if not name.startswith("lost-"):
        world.hit[name] += 1
    if heal is not None:
        healing[kind.on] = (now + lasts, heal)


def _heal(healing: dict[str, tuple[float, Heal]], now: float) -> None:
    for on in [on for on, (when, _) in healing.items() if when <= now]:
        healing.pop(on)[1]()


def _deck(kinds: Sequence[str], chance: random.Random) -> Iterator[str]:
    while True:
        yield from chance.sample(list(kinds), len(kinds))
