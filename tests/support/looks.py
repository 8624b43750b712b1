"""What people see, compared whole with the files in tests/data/looks; colours stand there as <red> and </>."""

from __future__ import annotations

import os
import re
from pathlib import Path

WRITE = bool(os.environ.get("DVCTL_TEST_WRITE_LOOKS"))  # read before tests get an environment of their own
LOOKS = Path(__file__).parents[1] / "data" / "looks"
_CODES = {"1": "bold", "2": "dim", "31": "red", "32": "green", "33": "yellow"}
_VARIES = (
    (re.compile(r"sqlite:///\S+"), "DATABASE"),
    (re.compile(r"SQLite file \S+"), "DATABASE"),
    (re.compile(r"/\S+\.jsonl"), "FILE"),
    (re.compile(r"redis://[\w.:/]+"), "REDIS"),
    (re.compile(r"\d\d:\d\d:\d\d UTC"), "hh:mm:ss UTC"),
    (re.compile(r"(?<=\()\d+\.\d s"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "YYYY-MM-DDThh:mm:ss.sssZ"),
    (re.compile(r" {3,}(?=(?:IDLE|AGE|BEHIND|OLDEST)\b)"), "  "),
    (re.compile(r"(?<= ) +(?=(?:<[a-z ]+>)?\d+(?:\.\d+)?(?:ms|[dhms])\b)"), ""),
    (re.compile(r"\b\d+(?:\.\d+)?(?:ms|[dhms])(?: \d+[hms])?(?![\w-])"), "TIME"),
    (re.compile(r"\b[\d.]+ (?:B|KiB|MiB)(?!\w)"), "SIZE"),
)
"""What differs from run to run, or from one version of a server to another, and what stands in its place."""


def tagged(text: str) -> str:
    """Escape codes as readable tags. Fails on a colour without a meaning."""
    text = re.sub(r"\x1b\[([\d;]+)m", lambda code: _tag(code[1]), text)
    assert "\x1b" not in text, text
    joined = ""
    while joined != text:  # neighbours in one style are one, and spaces have none
        joined, text = text, re.sub(r"<([a-z ]+)>([^<]*)</>( *)<\1>", r"<\1>\2\3", text)
    return re.sub(r"<[a-z ]+>( +)</>", r"\1", text)


def _tag(codes: str) -> str:
    return "</>" if codes == "0" else f"<{' '.join(_CODES[code] for code in codes.split(';'))}>"


def still(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, name in _VARIES:
        text = pattern.sub(name, text)
    return text


def assert_looks(name: str, shown: str) -> None:
    """Compare with the file of this name; DVCTL_TEST_WRITE_LOOKS=1 writes it.

    Before 7.0 Redis does not record how many entries were added: where that shows there is a second file.
    """
    path = LOOKS / f"{name}.txt"
    shown = still(tagged(shown))
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown, "utf-8")
    earlier = LOOKS / f"{name}-before-redis-7.txt"
    if not (earlier.exists() and shown == earlier.read_text("utf-8")):
        assert shown == path.read_text("utf-8")
