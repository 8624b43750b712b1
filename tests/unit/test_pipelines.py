"""The two pipelines, and whose consumers are DeviceVault's."""

from __future__ import annotations

import pytest

from devicevault_cli.pipelines import is_devicevaults_own


@pytest.mark.parametrize(
    ("consumer", "own"),
    [
        ("consumer-4711", True),
        ("storage-consumer-12", True),
        ("consumer-", False),
        ("consumer-a", False),
        ("vm-0", False),
    ],
)
def test_the_names_of_devicevaults_own_consumers(consumer: str, own: bool) -> None:
    assert is_devicevaults_own(consumer) is own
