"""What stands for a value in a file that cannot be taken as it was written."""

from __future__ import annotations

from typing import NamedTuple

QUOTE = "put quotes around it"


class Unusable(NamedTuple):
    """Refused where it is used, ignored elsewhere in the file."""

    line: int
    why: str
    hint: str = QUOTE
