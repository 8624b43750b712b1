"""The picture of `dvctl doctor`: a line for each check, its fix below it, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from devicevault_cli.output.table import text
from devicevault_cli.output.view import STATES, Cell, View
from devicevault_cli.plural import number

_WORDS = {"problem": "problem", "warning": "warning", "unknown": "check unknown", "ok": "check ok"}
"""What is counted of each state, the worst first."""
_PLURALS = {"unknown": "checks unknown", "ok": "checks ok"}


def doctor_lines(answer: Mapping[str, Any], view: View) -> Iterator[str]:
    """The whole picture."""
    rows = []
    for check in answer["checks"]:
        status = check["status"]
        rows.append((Cell(status, STATES[status]), Cell(check["name"]), Cell(text(check["detail"]))))
        if check["fix"]:
            rows.append((Cell(""), Cell(""), Cell(f"fix: {text(check['fix'])}", "bold")))
    yield from view.table({"STATUS": False, "CHECK": False, "DETAIL": False}, rows)
    yield ""
    counts = Counter(check["status"] for check in answer["checks"])
    found = [number(counts[state], word, _PLURALS.get(state)) for state, word in _WORDS.items() if counts[state]]
    worst = next(state for state in _WORDS if counts[state])
    yield view.state(worst, f"{worst.upper()}: {', '.join(found)}")
