"""A private Galera cluster: MariaDB servers of one machine that replicate to each other, each of which takes writes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.support import schema
from tests.support.mariadb_server import MariaDbKind, MariaDbServer
from tests.support.server import free_port, wait_until

_PROVIDERS = tuple(f"/usr/{folder}/libgalera_smm.so" for folder in ("lib/galera", "lib64/galera-4", "lib64/galera"))
_PROVIDER_OPTIONS = (
    "gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1:{transfer};gcache.size=8M;"
    "evs.keepalive_period=PT0.3S;evs.suspect_timeout=PT1S;evs.inactive_timeout=PT3S;evs.install_timeout=PT3S"
)
"""A node that is gone is noticed after a second, and not after five."""


@cache
def galera_provider() -> Path | None:
    """The library that replicates; None where it, or rsync, by which a new node gets the data, is missing."""
    found = next((Path(name) for name in _PROVIDERS if Path(name).exists()), None)
    return found if shutil.which("rsync") else None


class GaleraCluster:
    """Nodes that all take writes; the first one has started the cluster."""

    def __init__(self, kind: MariaDbKind, provider: Path, count: int = 2) -> None:
        addresses = [free_port() for _ in range(count)]
        self.nodes = [
            MariaDbServer(kind, *_options(provider, port, [] if port == addresses[0] else addresses[:1]))
            for port in addresses
        ]

    def start(self) -> GaleraCluster:
        for node in self.nodes:
            if node is not self.nodes[0]:  # it gets its system tables with the data, from the first one
                node.data.mkdir()
                shutil.chown(node.data, node.user or -1)
            node.start()
            wait_until(lambda node=node: self.is_ready(node), what="the node to be part of the cluster")  # type: ignore[misc]
        return self

    def is_ready(self, node: MariaDbServer) -> bool:
        return node.execute("SHOW STATUS LIKE 'wsrep_ready'") == [("wsrep_ready", "ON")]

    def database(self) -> str:
        """The name of a fresh database with DeviceVault's tables and fifty devices, once every node has it."""
        name = self.nodes[0].database().rpartition("/")[2]
        for node in self.nodes:
            wait_until(lambda node=node: _has_devices(node, name), what="the tables on every node")  # type: ignore[misc]
        return name

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()


def _options(provider: Path, port: int, others: Sequence[int]) -> list[str]:
    """`others`: the addresses of nodes that are there already; none: start a cluster."""
    options = _PROVIDER_OPTIONS.format(port=port, transfer=free_port())
    return [
        "--wsrep-on=ON",
        f"--wsrep-provider={provider}",
        f"--wsrep-provider-options={options}",
        f"--wsrep-cluster-address=gcomm://{','.join(f'127.0.0.1:{other}' for other in others)}",
        f"--wsrep-node-address=127.0.0.1:{port}",
        f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
        "--wsrep-sst-method=rsync",
        "--binlog-format=ROW",
        "--innodb-autoinc-lock-mode=2",
        *([] if others else ["--wsrep-new-cluster"]),
    ]


def _has_devices(node: MariaDbServer, name: str) -> bool:
    where = f"table_schema = '{name}' AND table_name = 'devices_device'"
    if not node.execute(f"SELECT 1 FROM information_schema.tables WHERE {where}"):
        return False
    return node.execute("SELECT count(*) FROM devices_device", database=name) == [(schema.DEVICES,)]
