"""The names of streams that one setting may stand for: a name, or a range such as `device:results:{0..15}`."""

from __future__ import annotations

import re

from devicevault_cli.errors import Usage

MOST = 1024
"""How many streams a range may stand for: each has a connection of its own."""

_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")
_NUMBERED = re.compile(r"\{[0-9]+\}")


def is_one_of_range(name: str) -> bool:
    """Whether a name looks like one that a range stands for: its hash tag is a number."""
    return _NUMBERED.search(name) is not None


def expanded_names(text: str) -> tuple[str, ...]:
    """The names that a text stands for: itself, or those of its range, whose numbers keep the braces as the hash tag.

    Raises Usage for a range that runs backwards, is too long, or stands beside a second one.
    """
    found = list(_RANGE.finditer(text))
    if not found:
        return (text,)
    [range_, *more] = found
    if more:
        raise Usage(f"{text[:60]!r} holds two ranges", hint="give --stream once for each range")
    if any(len(number) > 1 and number.startswith("0") for number in range_.groups()):
        raise Usage(f"{range_[0]}: a number of a range begins with 0", hint="write for example {0..15}")
    first, last = map(int, range_.groups())
    if first > last:
        raise Usage(f"{range_[0]} runs backwards", hint=f"write {{{last}..{first}}}")
    if last - first >= MOST:
        raise Usage(f"{range_[0]} stands for more than {MOST:,} streams")
    before, after = text[: range_.start()], text[range_.end() :]
    return tuple(f"{before}{{{number}}}{after}" for number in range(first, last + 1))
