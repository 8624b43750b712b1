"""The table of results in range partitions, by the statements of docs/scaling.md."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def partition_by_time(url: str) -> None:
    """What the page says an operator does, in a PostgreSQL database."""
    (statements,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute(statements.encode())
