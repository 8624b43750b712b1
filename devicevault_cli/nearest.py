"""Suggestions for a name that does not exist: the most similar names that do."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 100
"""Characters of a name: a worker may have written a megabyte, and comparing two of these takes minutes."""
MOST = 5


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that look like this one, the most similar first."""
    import difflib

    shown = {known_name[:LONGEST].casefold(): known_name for known_name in known}
    typed = name[:LONGEST].casefold()
    close = difflib.get_close_matches(typed, shown, most)
    close += [folded for folded in shown if typed and typed in folded and folded not in close]
    return [shown[folded][:LONGEST] for folded in close[:most]]


def suggestion(name: str, known: Iterable[str], kinds: str, most: int = MOST) -> str:
    """`did you mean "worker-1"?`, else what there is: `consumers: a, b and 4 more`."""
    names = list(dict.fromkeys(known))
    if close := nearest(name, names):
        return f"did you mean {' or '.join(map(quoted, close))}?"
    return f"{kinds}: {listed(names, most)}" if names else f"there are no {kinds}"


def listed(names: list[str], most: int = MOST) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - most
    return ", ".join(name[:LONGEST] for name in names[:most]) + (f" and {more:,} more" if more > 0 else "")


def quoted(name: str) -> str:
    """A name in a sentence."""
    return f'"{name[:LONGEST]}"'
