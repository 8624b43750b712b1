"""Freed memory is used again, where the C library is glibc."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CHURN = """
import resource
from devicevault_cli.consumer.memory import keep_freed_memory
{before}
for _ in range(30):
    page = [b"x" * 1_000_000 for _ in range(16)]
    del page
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(before: str) -> int:
    """Page faults of a process that reads pages of large messages."""
    return int(subprocess.check_output([sys.executable, "-c", CHURN.format(before=before)], timeout=60))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere nothing is set")
def test_large_messages_fault_on_fresh_pages_once() -> None:
    assert faults("keep_freed_memory()") < faults("pass") / 3
