"""The broker library: all that dvctl knows of Celery and its broker, RabbitMQ or Redis.

It hands tasks to the queues that DeviceVault's storage workers read. kombu is loaded only by what connects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devicevault_cli.broker.url import parse_broker_url
from devicevault_cli.errors import BadConfig

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Publisher

INSTALL = "install it with `pip install 'dvctl[dispatch]'`, or use --no-dispatch"


def open_publisher(url: str) -> Publisher:
    """A publisher for the broker at a URL. It connects when it is first used. Raises BadConfig."""
    addresses = parse_broker_url(url)
    try:
        from devicevault_cli.broker.publisher import Publisher
    except ModuleNotFoundError as error:
        raise BadConfig(f"storage dispatch needs the package {error.name}", hint=INSTALL) from None
    return Publisher(addresses)
