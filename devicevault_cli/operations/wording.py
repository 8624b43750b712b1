"""Numbers and lists in the words of messages and plans."""

from __future__ import annotations

from devicevault_cli.plural import number


def chosen_number(count: int, one: str, many: str | None = None) -> str:
    """The number of selected items; for 0 with the note that nothing matched."""
    return f"{'' if count else 'nothing matched: '}{number(count, one, many)}"


def entries(count: int) -> str:
    """`1 entry`, `2,000 entries`."""
    return number(count, "entry", "entries")


def entries_were(count: int) -> str:
    """The subject and verb of a sentence: `1 entry was`, `2,000 entries were`."""
    return f"{entries(count)} {'was' if count == 1 else 'were'}"


def some(names: list[str], most: int = 5, total: int | None = None) -> str:
    """The first `most` names and how many more there are; `total` where `names` is not the whole list."""
    shown = ", ".join(names[:most])
    more = (len(names) if total is None else total) - min(most, len(names))
    return f"{shown} and {more:,} more" if more > 0 else shown
