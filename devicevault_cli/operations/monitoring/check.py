"""What monitoring asks: is the group keeping up? A few values against their limits."""

from __future__ import annotations

import time
from typing import Any, Literal, NamedTuple, TypeAlias

from devicevault_cli.operations.monitoring.lag import lag_of
from devicevault_cli.operations.monitoring.stream_checks import Opened, for_check, nothing
from devicevault_cli.streams.dead_letters import DeadLetters
from devicevault_cli.streams.group import Group
from devicevault_cli.streams.model import EntryId

State: TypeAlias = Literal["ok", "warning", "critical", "unknown"]
CODES: dict[State, int] = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}
"""Exit codes as monitoring plugins have them."""
SEVERITY: tuple[State, ...] = ("ok", "unknown", "warning", "critical")


class Limit(NamedTuple):
    """Above `warning` (None: never) a value is a warning, above `critical` critical."""

    warning: float | None
    critical: float

    def judge(self, value: float | None) -> State:
        """The state of a value; None is one that nobody knows."""
        if value is None:
            return "unknown"
        if value > self.critical:
            return "critical"
        return "warning" if self.warning is not None and value > self.warning else "ok"


DEFAULTS = {
    "lag": Limit(1000, 10_000),
    "pending": Limit(1000, 10_000),
    "age_s": Limit(300, 3600),
    "dead": Limit(0, 100),
}
"""Where no limit is given at all."""


def watch(group: Group, limits: dict[str, Limit], opened: Opened = nothing) -> dict[str, Any]:
    """The answer of `check -o json`. Without a stream everything is 0; values without a limit are ok.

    The database is opened only for an empty stream: rows beside it tell that the stream was not always empty.
    """
    values, note = _values(group)
    checks = []
    for name, value in values.items():
        limit = limits.get(name)
        checks.append(
            {
                "name": name,
                "status": limit.judge(value) if limit else "ok",
                "value": value,
                "warning": limit.warning if limit else None,
                "critical": limit.critical if limit else None,
            }
        )
    checks += for_check(group, opened)
    status = max((str(each["status"]) for each in checks), key=[*SEVERITY].index)  # type: ignore[arg-type]
    return {"status": status, "stream": group.stream.key, "group": group.name, "checks": checks, "note": note}


def _values(group: Group) -> tuple[dict[str, float | None], str]:
    """The values, and what is to be said of them.

    lag: entries not delivered; pending: delivered, not acknowledged; age_s: of the oldest of both; dead: letters."""
    dead = sum(len(page) for page in DeadLetters(group.stream, group.name).pages())
    info = group.stream.info()
    if info is None:
        return {"lag": 0, "pending": 0, "age_s": 0, "dead": dead}, "there is no stream yet"
    about = group.info()
    if about is None:
        return {"lag": info.length, "pending": 0, "age_s": _age_s(info.first_id), "dead": dead}, "there is no group yet"
    lag = lag_of(group.stream, info, about)
    summary = group.summary()
    oldest = min((each for each in (lag.oldest, summary.first_id) if each is not None), default=None)
    return {"lag": lag.entries, "pending": summary.total, "age_s": _age_s(oldest), "dead": dead}, ""


def _age_s(oldest: EntryId | None) -> float:
    return 0 if oldest is None else max(0.0, round(time.time() - oldest.ms / 1000, 1))


def nagios(answer: dict[str, Any]) -> list[str]:
    """One line: the verdict, what is not ok, and performance data; `error` is why nothing is known. Names are inert."""
    bad = [
        each.get("detail") or f"{each['name']} is {_shown(each['value'])}"
        for each in answer["checks"]
        if each["status"] != "ok"
    ]
    data = " ".join(
        f"{each['name']}={_shown(each['value'])};{_shown(each['warning'])};{_shown(each['critical'])};0"
        for each in answer["checks"]
    )
    about = f"{answer['group']} of {answer['stream']}"
    why = answer.get("error") or ", ".join(bad) or answer.get("note") or "keeping up"
    said = f"DVCTL {answer['status'].upper()} - {about}: {why}"
    # The first bar begins the performance data.
    return [said.replace("|", "/") + (f" | {data}" if data else "")]


def prometheus(answer: dict[str, Any]) -> list[str]:
    """The text format, e.g. for the textfile collector of a node exporter. Names are inert."""
    labels = f'stream="{_escaped(answer["stream"])}",group="{_escaped(answer["group"])}"'
    lines = []
    for each in answer["checks"]:
        name = f"dvctl_check_{each['name'].replace('age_s', 'age_seconds')}"
        value = "NaN" if each["value"] is None else _shown(each["value"])
        lines += [f"# TYPE {name} gauge", f"{name}{{{labels}}} {value}"]
    lines += ["# TYPE dvctl_check_status gauge", f"dvctl_check_status{{{labels}}} {CODES[answer['status']]}"]
    return lines


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
