"""Private Redis Clusters and masters under Sentinels: killed, frozen, cut off and moved, as tests ask."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.support.redis_server import RedisKind, RedisServer
from tests.support.server import ServerProcess, free_port, server_directory, wait_until

SLOTS = 16384
NODE_TIMEOUT_MS = 1500
SERVICE = "main"
LONG_S = 120.0
"""How long a test waits for servers that agree with each other, on a machine that is busy with other tests."""
_REPLICATION = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", "--appendonly", "yes")
_CLUSTER = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
_OK = "cluster_state:ok"


class RedisCluster:
    """Masters that share the slots, with a replica each. `nodes`: masters first, then the replica of each.

    `key`: the one whose master and slot are meant.
    """

    key = "device:results"

    def __init__(self, kind: RedisKind, masters: int = 3, *args: str, **options: Any) -> None:
        self.nodes = [RedisServer(kind, *_CLUSTER, *_REPLICATION, *args, **options) for _ in range(2 * masters)]
        self._masters = masters

    @property
    def url(self) -> str:
        """The URL for dvctl, with the first and the last node."""
        return self.url_of(self.nodes[0], self.nodes[-1])

    def url_of(self, *nodes: RedisServer) -> str:
        """The URL for dvctl that names these nodes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        login = f":{nodes[0].password}@" if nodes[0].password else ""
        tls = nodes[0].tls
        query = f"?ssl_ca_certs={tls / 'ca.pem'}" if tls else ""
        return f"redis{'s' if tls else ''}+cluster://{login}{hosts}/0{query}"

    def start(self) -> RedisCluster:
        for node in self.nodes:
            node.start()
        first = self.nodes[0]
        for number, master in enumerate(self.nodes[: self._masters]):
            slots = range(number * SLOTS // self._masters, (number + 1) * SLOTS // self._masters)
            _call(master, "CLUSTER", "ADDSLOTS", *slots)
            _call(master, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        bus = int(_call(first, "CONFIG", "GET", "cluster-port")[1])
        for node in self.nodes[1:]:
            _call(node, "CLUSTER", "MEET", "127.0.0.1", first.port, bus)
        wait_until(self._all_known, timeout=LONG_S, what="all nodes to know each other")
        for master, replica in zip(self.nodes, self.nodes[self._masters :], strict=False):
            _call(replica, "CLUSTER", "REPLICATE", _text(_call(master, "CLUSTER", "MYID")))
        wait_until(self.well, timeout=LONG_S, what="the cluster to be complete")
        return self

    def _all_known(self) -> bool:
        told = [_text(_call(node, "CLUSTER", "INFO")) for node in self.nodes]
        return all(f"cluster_known_nodes:{len(self.nodes)}" in info and _OK in info for info in told)

    def well(self) -> bool:
        """Whether every node that runs agrees that all slots are served, and every replica is in step."""
        running = [node for node in self.nodes if node.process.alive()]
        try:
            roles = [_call(node, "ROLE") for node in running]
            told = [_text(_call(node, "CLUSTER", "INFO")) for node in running]
            known = {len({replica[2] for found in _slots(node) for replica in found[3:]}) for node in running}
        except redis.RedisError:
            return False
        replicas = [role for role in roles if _text(role[0]) != "master"]
        in_step = all(_text(role[3]) == "connected" for role in replicas)
        agreed = known == {len(replicas)} and len(roles) - len(replicas) == self._masters
        return in_step and agreed and all(_OK in info for info in told)

    def master(self, *, of: RedisServer | None = None) -> RedisServer:
        """The node that serves the key, as `of` sees it, else the first that answers."""
        slot = key_slot(self.key.encode())
        for node in [of] if of else [node for node in self.nodes if node.process.alive()]:
            with suppress(redis.RedisError):
                for first, last, master, *_ in _slots(node):
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == master[1])
        raise LookupError(f"no node serves {self.key}")

    def replica_of(self, master: RedisServer) -> RedisServer:
        """A replica of a master."""
        for node in self.nodes:
            if node.process.alive() and node is not master:
                role = _call(node, "ROLE")
                if _text(role[0]) == "slave" and role[2] == master.port:
                    return node
        raise LookupError("it has no replica")

    def promoted(self, before: RedisServer) -> bool:
        """Whether another node than before serves the key, as all others that run see it."""
        others = [node for node in self.nodes if node is not before and node.process.alive()]
        try:
            return all(self.master(of=node) is not before for node in others)
        except (LookupError, redis.RedisError):
            return False

    def fail_over(self) -> None:
        """Have the replica take over as planned, without a loss."""
        owner = self.master()
        replica = self.replica_of(owner)

        def moved() -> bool:
            with suppress(redis.ResponseError):  # it is a master already
                _call(replica, "CLUSTER", "FAILOVER")  # gives up by itself after 5 s
            return self.promoted(owner)

        wait_until(moved, timeout=LONG_S, what="the replica to take over", every=0.5)

    def migrate(self, to: RedisServer) -> None:
        """Move the slot of the key, with all keys in it, to another master."""
        source, slot = self.master(), key_slot(self.key.encode())
        ids = [_text(_call(node, "CLUSTER", "MYID")) for node in (source, to)]
        _call(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        _call(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        while keys := _call(source, "CLUSTER", "GETKEYSINSLOT", slot, 10):
            _call(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 60_000, "KEYS", *keys)
        for node in (to, source):
            _call(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        wait_until(lambda: self.promoted(source), timeout=LONG_S, what="all nodes to know of the move")

    def remove(self) -> None:
        for node in self.nodes:
            node.remove()


class Sentinel:
    """One redis-sentinel that watches a master."""

    def __init__(self, kind: RedisKind, master: RedisServer, quorum: int, password: str = "") -> None:
        self.directory, self.port, self.password = server_directory("sentinel"), free_port(), password
        self._kind = kind
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} {quorum}",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 6000",
        ]
        lines += [f"sentinel auth-pass {SERVICE} {master.password}"] if master.password else []
        lines += [f"requirepass {password}", f"sentinel sentinel-pass {password}"] if password else []
        self._config = self.directory / "sentinel.conf"
        self._config.write_text("\n".join([*lines, ""]))
        self._process: ServerProcess | None = None

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the Sentinel was not started"
        return self._process

    def start(self) -> Sentinel:
        command: list[str | Path] = [self._kind.binary, self._config, "--sentinel", "--port", str(self.port)]
        self._process = ServerProcess([*command, "--bind", "127.0.0.1"], log=self.directory / "log")
        self._process.wait_ready(self._answers)
        return self

    def call(self, *command: Any) -> Any:
        with redis.Redis(port=self.port, password=self.password or None, socket_timeout=5, protocol=2) as client:
            return _raw(client, *command)

    def _answers(self) -> bool:
        with suppress(redis.RedisError):
            return bool(self.call("PING"))
        return False

    def remove(self) -> None:
        if self._process is not None:
            self._process.thaw()
            self._process.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)


class SentinelGroup:
    """A master with replicas, and Sentinels that agree on who is master. `nodes`: the first master first."""

    def __init__(self, kind: RedisKind, replicas: int = 2, *args: str, sentinels: int = 3, **options: Any) -> None:
        self._kind, self._sentinels = kind, sentinels
        self._password = options.pop("sentinel_password", "")
        master = RedisServer(kind, *_REPLICATION, *args, **options)
        follows = (
            "--replicaof",
            "127.0.0.1",
            str(master.port),
            *(("--masterauth", master.password) if master.password else ()),
        )
        self.nodes = [master, *(RedisServer(kind, *_REPLICATION, *follows, *args, **options) for _ in range(replicas))]
        self.sentinels: list[Sentinel] = []

    @property
    def url(self) -> str:
        """The URL for dvctl."""
        return self.url_of(*self.sentinels)

    def url_of(self, *sentinels: Sentinel, service: str = SERVICE, db: int = 0) -> str:
        """The URL for dvctl that names these Sentinels."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        login = f":{self.nodes[0].password}@" if self.nodes[0].password else ""
        query = f"?sentinel_password={self._password}" if self._password else ""
        return f"redis+sentinel://{login}{hosts}/{service}/{db}{query}"

    def start(self) -> SentinelGroup:
        for node in self.nodes:
            node.start()
        wait_until(self._in_step, timeout=LONG_S, what="the replicas to be in step")
        quorum = self._sentinels // 2 + 1
        self.sentinels = [
            Sentinel(self._kind, self.nodes[0], quorum, self._password).start() for _ in range(self._sentinels)
        ]
        wait_until(self.well, timeout=LONG_S, what="the Sentinels to know each other and the replicas")
        return self

    def _in_step(self) -> bool:
        return all(_text(_call(node, "ROLE")[3]) == "connected" for node in self.nodes[1:])

    def well(self) -> bool:
        """Whether every Sentinel knows all others and all replicas, and calls nobody down."""
        states = [_state(sentinel) for sentinel in self.sentinels]
        return all(
            state["num-other-sentinels"] == str(self._sentinels - 1)
            and state["num-slaves"] == str(len(self.nodes) - 1)
            and state["flags"] == "master"
            for state in states
        )

    def master(self) -> RedisServer:
        """The master, as the Sentinels that run see it."""
        ports = []
        for sentinel in self.sentinels:
            with suppress(redis.RedisError):
                ports.append(int(_state(sentinel)["port"]))
        port = max(set(ports), key=ports.count)
        return next(node for node in self.nodes if node.port == port)

    def promoted(self, before: RedisServer) -> bool:
        """Whether another node than before is the master, and says so itself."""
        try:
            master = self.master()
            return master is not before and _text(_call(master, "ROLE")[0]) == "master"
        except (redis.RedisError, ValueError):
            return False

    def fail_over(self) -> None:
        """Have the Sentinels move the master, which is well, to a replica."""
        before = self.master()
        self.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE)
        wait_until(lambda: self.promoted(before), timeout=LONG_S, what="the replica to take over")

    def remove(self) -> None:
        for sentinel in self.sentinels:
            sentinel.remove()
        for node in self.nodes:
            node.remove()


def _state(sentinel: Sentinel) -> dict[str, str]:
    reply = [_text(part) for part in sentinel.call("SENTINEL", "MASTER", SERVICE)]
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _call(node: RedisServer, *command: Any) -> Any:
    with node.client(unix=True, socket_timeout=5, protocol=2) as client:
        return _raw(client, *command)


def _raw(client: redis.Redis, *command: Any) -> Any:
    """The reply as the server gave it."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        pool.release(connection)


def cut_off_replicas(master: RedisServer) -> None:
    """End the connections of replicas, which are frozen: they get nothing that is written from now on."""
    _call(master, "CLIENT", "KILL", "TYPE", "replica")


def _slots(node: RedisServer) -> list[Any]:
    return list(_call(node, "CLUSTER", "SLOTS"))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
