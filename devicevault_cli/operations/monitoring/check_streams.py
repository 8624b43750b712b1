"""dvctl check of several streams: one answer about all of them, with totals against the limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from devicevault_cli.operations.monitoring.check import SEVERITY, Check, CheckAnswer
from devicevault_cli.operations.monitoring.limits import Limit


@dataclass(frozen=True, slots=True)
class StreamsCheckAnswer(CheckAnswer):
    """The answer of `check` about several streams: `checks` holds totals, and the age of the oldest entry.

    `streams`: the answer about each of them.
    """

    streams: Sequence[CheckAnswer] = ()


def together(answers: Sequence[CheckAnswer], limits: Mapping[str, Limit], shown: str) -> StreamsCheckAnswer:
    """One answer of those of all streams. `shown`: what the streams are called together."""
    checks = list(_totals(answers, limits))
    errors = [f"{answer.stream}: {answer.error}" for answer in answers if answer.error]
    states = [check.status for check in checks] + ["unknown"] * bool(errors)
    bad = [check.detail or check.name for check in checks if check.status != "ok"]
    return StreamsCheckAnswer(
        max(states, key=SEVERITY.index),
        shown,
        answers[0].group,
        checks,
        note=f"{len(answers)} streams keeping up",
        error="; ".join([*errors, *(bad if errors else [])]) or None,
        streams=answers,
    )


def _totals(answers: Sequence[CheckAnswer], limits: Mapping[str, Limit]) -> Iterator[Check]:
    names = dict.fromkeys(check.name for answer in answers for check in answer.checks)
    for name in names:
        found = [(answer.stream, check) for answer in answers for check in answer.checks if check.name == name]
        worst_of, worst = max(found, key=lambda pair: (SEVERITY.index(pair[1].status), pair[1].value or 0))
        if len(found) == 1:
            yield worst
        elif name in limits or worst.detail is None:
            yield _limited(name, found, limits.get(name), worst_of)
        else:
            value = _combined(name, [check.value for _, check in found])
            yield replace(worst, value=value, detail=_named(worst, worst_of))


def _named(check: Check, stream: str) -> str | None:
    detail = check.detail
    return detail if check.status == "ok" or not detail or stream in detail else f"{stream}: {detail}"


def _limited(name: str, found: Sequence[tuple[str, Check]], limit: Limit | None, worst_of: str) -> Check:
    """A total against its limit; beyond it, which stream has most."""
    value = _combined(name, [check.value for _, check in found])
    if limit is None:
        return Check(name, "ok", value)
    state = limit.state_of(value)
    stream, most = max(found, key=lambda pair: -1 if pair[1].value is None else pair[1].value)
    if value is None:
        stream = next(of for of, check in found if check.value is None)
    shown = "unknown" if value is None else f"{value:g}"
    detail = f"{name} is {shown} ({stream}{'' if most.value is None or value is None else f': {most.value:g}'})"
    return Check(name, state, value, limit.warning, limit.critical, detail=None if state == "ok" else detail)


def _combined(name: str, values: Sequence[float | None]) -> float | None:
    """The total: the sum of counts, the highest of ages, the lowest of 0/1 states; None if any of them is unknown."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return max(known) if name == "age_s" else min(known) if name == "group" else sum(known)
