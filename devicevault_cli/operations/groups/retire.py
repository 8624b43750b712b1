"""Consumers of a group: who they are, and retiring those that will not come back without losing what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from devicevault_cli.errors import MissingGroup, Usage
from devicevault_cli.operations.changes.plan import Answer, Plan, Progress, entries, number, quietly, some
from devicevault_cli.operations.groups.consumer_name import lowest_free
from devicevault_cli.operations.groups.snapshots import existing_group
from devicevault_cli.operations.monitoring.liveness import ALIVE_MS, Liveness, liveness_of, refusal
from devicevault_cli.operations.named import named_consumers, new_consumer
from devicevault_cli.streams import admin
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import ConsumerInfo

NAMES_A_STEP = 500


def list_consumers(group: Group) -> Answer:
    """The answer of `consumers -o json`; no consumers where there is no group."""
    try:
        liveness = liveness_of(group)
    except MissingGroup:
        liveness = Liveness(group, [])
    return {
        "group": group.name,
        "consumers": [
            {
                "name": each.name,
                "pending": each.pending,
                "idle_ms": each.idle_ms,
                "inactive_ms": each.inactive_ms,
                "alive": liveness.alive(each),
            }
            for each in liveness.consumers
        ],
    }


def plan_retire(
    group: Group,
    names: Sequence[str] = (),
    *,
    dead_for_ms: int | None = None,
    to: str | None = None,
    force: bool = False,
    progress: Progress = quietly,
) -> Plan:
    """Delete consumers after moving what they hold to `to`; `dead_for_ms` chooses and alone decides.

    Without `to`: the liveliest consumer that stays, if it is alive, else the name that the next `dvctl consume` on this
    host takes.  Each step asks again, in Redis, whether a consumer still is dead for so long.  Refused, unless `force`,
    where one of them may be waiting for messages.
    """
    if bool(names) == (dead_for_ms is not None):
        raise Usage("give either names of consumers or --dead-for")
    if to in names:
        raise Usage(f"--to {to} is one of the consumers to retire", hint="name another consumer with --to")
    existing_group(group)
    liveness = liveness_of(group)
    everyone = {each.name: each for each in liveness.consumers}
    if dead_for_ms is None:
        chosen = [everyone[name] for name in dict.fromkeys(names) if name in everyone]
    else:
        chosen = [each for each in everyone.values() if each.idle_ms >= dead_for_ms and each.name != to]
    leaving = {each.name for each in chosen}
    heir = to or _heir(group, [each for name, each in everyone.items() if name not in leaving])
    if heir in leaving and any(each.pending for each in chosen):
        chosen = [each for each in chosen if each.name != heir]

    def still_true() -> bool:
        now = {each.name: each.pending for each in group.consumers()}
        return all(now.get(each.name) == each.pending for each in chosen)

    def apply() -> Answer:
        return _retire(group, [each.name for each in chosen], heir, dead_for_ms, progress)

    held = sum(each.pending for each in chosen)
    waits = any(each in liveness.candidates for each in chosen)
    refused = refusal(liveness, recent=False) if waits and not force else None
    named = named_consumers(group, names, everyone)
    says = [
        *_says(chosen, held, heir),
        *(new_consumer(group, heir, everyone) if held else []),
        *([f"this would be REFUSED: {refused}; {refused.hint}"] if refused else []),
    ]
    return Plan(
        command="consumers retire",
        says=tuple(says),
        answer={
            "retired": [each.name for each in chosen],
            "moved": held,
            "to": heir,
            "unknown": list(named.unknown),
            "refused": str(refused) if refused else None,
        },
        size=len(chosen),
        apply=apply,
        still_true=still_true,
        refusal=refused,
        named=named,
        failure=_none_retired,
    )


def _none_retired(answer: Answer) -> str:
    return "" if answer["retired"] else f"no consumer was retired: active again: {some(answer['spared']) or 'none'}"


def _says(chosen: list[ConsumerInfo], held: int, heir: str) -> Iterator[str]:
    if chosen:
        yield f"{number(len(chosen), 'consumer')} would be retired: {some([each.name for each in chosen])}"
    else:
        yield "nothing matched: no consumer would be retired"
    if held:
        yield f"{entries(held)} would move to {heir}, delivery counts and idle times kept"
    if alive := [each.name for each in chosen if each.idle_ms < ALIVE_MS]:
        yield f"warning: active in the last {ALIVE_MS // 1000} s; may rejoin the group: {some(alive)}"


def _heir(group: Group, staying: list[ConsumerInfo]) -> str:
    liveliest = min(staying, key=lambda each: each.idle_ms, default=None)
    if liveliest is not None and liveliest.idle_ms < ALIVE_MS:
        return liveliest.name
    name, lock = lowest_free(group.stream.key, group.name)
    lock.close()
    return name


def _retire(group: Group, names: list[str], to: str, dead_for_ms: int | None, progress: Progress) -> Answer:
    retired: list[str] = []
    spared: list[str] = []
    moved = gone = 0
    while names:
        step = admin.retire(group, names[:NAMES_A_STEP], to, dead_for_ms)
        retired += step.retired
        spared += [name for name in step.spared if name not in spared]
        moved += step.moved
        gone += step.gone
        names = names[step.done :]
        progress(moved)
    return {"retired": retired, "moved": moved, "gone": gone, "spared": spared, "to": to}
