"""The pictures of `dvctl config`: the settings, a profile that was written, what is wrong with profiles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from devicevault_cli.output.table import text
from devicevault_cli.output.view import STATES, Cell, View
from devicevault_cli.plural import number

Answer: TypeAlias = Mapping[str, Any]


def settings_lines(answer: Answer, view: View) -> Iterator[str]:
    """Where the settings come from in one sentence, then each; those that nobody set are dim."""
    settings = answer["settings"]
    chosen = Counter(
        setting["source"] for setting in settings if setting["value"] is not None and setting["name"] != "profile"
    )
    profile = next((setting["value"] for setting in settings if setting["name"] == "profile"), None)
    given = ", ".join(
        f"{count} from {text(f'profile {profile}' if source == 'profile' else SOURCES.get(source, source))}"
        for source, count in chosen.items()
        if source != "default"
    )
    yield from view.folded(f"{number(len(settings), 'setting')}: {given or 'all of them defaults'}", "bold", "  ")
    yield from _dispatch(answer["dispatch"], view)
    if answer["redis"]:
        yield from view.folded(f"Redis: {text(answer['redis'])}", "", "  ")
    yield ""
    rows = []
    for setting in settings:
        style = "dim" if setting["source"] == "default" else ""
        source = text(setting.get("detail") or setting["source"])
        value = "-" if setting["value"] is None else text(setting["value"])
        rows.append([Cell(setting["name"], style), Cell(value, style), Cell(source, style)])
    yield from view.table({"SETTING": False, "VALUE": False, "FROM": False}, rows)


SOURCES = {"flag": "flags", "environment": "the environment"}


def _dispatch(dispatch: Answer, view: View) -> Iterator[str]:
    if dispatch["on"]:
        line = f"on, through {text(dispatch['broker'])} ({text(dispatch['detail'])})"
    else:
        line = f"off ({text(dispatch['detail'])})"
    wrong = dispatch["why"] == "not-usable"
    yield from view.folded(f"Storage dispatch: {line}", STATES["problem"] if wrong else "", "  ")


def written_lines(answer: Answer, view: View) -> Iterator[str]:
    """The result of `config init`."""
    done = "Replaced" if answer["replaced"] else "Wrote"
    default = ", now the default" if answer["default"] else ""
    sentence = f"{done} profile {text(answer['profile'])}{default}: {text(answer['file'])} (mode 0600)."
    yield from view.folded(sentence, "green", "  ")
    if answer["secrets"]:
        yield from view.folded("The file holds passwords: only its owner can read it.", "", "  ")
    if answer["lost_comments"]:
        lost = number(answer["lost_comments"], "line of comments", "lines of comments")
        yield from view.folded(f"{lost} of the profile that was replaced could not be kept.", "yellow", "  ")
    yield ""
    rows = [(Cell(setting["name"], "bold"), text(setting["value"])) for setting in answer["settings"]]
    yield from view.grid(rows)
    if answer["checks"]:
        yield ""
        yield from _checks(answer["checks"], view)


def used_lines(answer: Answer, view: View) -> Iterator[str]:
    """The result of `config use`."""
    name, before = answer["profile"], answer["before"]
    now = f"Profile {text(name)} is the default" if name else "No profile is the default"
    instead = (
        f", instead of {text(before)}" if before and name else f" any more; it was {text(before)}" if before else ""
    )
    if name == before:
        yield f"{now} already."
    else:
        yield from view.folded(f"{now}{instead}.", "green", "  ")


def checks_lines(answer: Answer, view: View) -> Iterator[str]:
    """The result of `config validate`: the checks, then a summary."""
    checks = answer["checks"]
    yield from _checks(checks, view)
    yield ""
    problems = sum(check["status"] == "problem" for check in checks)
    warnings = sum(check["status"] == "warning" for check in checks)
    state = "problem" if problems else "warning" if warnings else "ok"
    profiles = len({check["profile"] for check in checks} - {None})
    found = [number(problems, "problem")] * bool(problems) + [number(warnings, "warning")] * bool(warnings)
    about = f"{', '.join(found) or 'nothing is wrong'} in {number(profiles, 'profile')} of {text(answer['file'])}"
    asked = "" if answer["connected"] else "; the servers were not asked (--connect)"
    for line in view.folded(f"{state.upper()}: {about}{asked}", indent="  "):
        yield view.state(state, line)


def _checks(checks: Sequence[Answer], view: View) -> Iterator[str]:
    """A line for each check, its fix below it; the profile where there are any."""
    named = any(check["profile"] for check in checks)
    rows: list[list[Cell]] = []
    for check in checks:
        first = [Cell(text(check["profile"] or "-"))] if named else []
        status = Cell(check["status"], STATES[check["status"]])
        rows.append([status, *first, Cell(text(check["setting"])), Cell(text(check["detail"]))])
        if check["fix"]:
            rows.append([Cell("")] * (len(first) + 2) + [Cell(f"fix: {text(check['fix'])}", "bold")])
    heads = {"STATUS": False} | ({"PROFILE": False} if named else {}) | {"CHECK": False, "DETAIL": False}
    yield from view.table(heads, rows)
