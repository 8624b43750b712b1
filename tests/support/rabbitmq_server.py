"""A private RabbitMQ node: own ports, own Erlang name service, own files; fresh virtual hosts within milliseconds.

A process inside the node evaluates Erlang expressions that come in over a Unix socket. `rabbitmqctl` would start an
Erlang machine for every call, which takes a second of processor time.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit

from tests.support.server import WAIT_S, ServerFailed, ServerProcess, free_port, server_directory

_SCRIPTS = Path("/usr/lib/rabbitmq/bin")
"""Of the packages of Linux distributions: what they put into PATH changes to another user and to its own folders."""
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/usr/lib/erlang/bin")
_LIGHT = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none +A 4 -kernel inet_dist_use_interface {127,0,0,1}"
_LISTENER = """spawn(fun() ->
  {ok, L} = gen_tcp:listen(0, [{ifaddr, {local, "PATH"}}, binary, {packet, 4}, {active, false}]),
  Serve = fun Serve(S) -> case gen_tcp:recv(S, 0) of
    {ok, Text} ->
      Answer = try
        {ok, Tokens, _} = erl_scan:string(binary_to_list(Text)),
        {ok, Parsed} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Parsed, []),
        io_lib:format("+~0p", [Value])
      catch Class:Reason -> io_lib:format("-~0p: ~0p", [Class, Reason]) end,
      gen_tcp:send(S, unicode:characters_to_binary(Answer)), Serve(S);
    _ -> gen_tcp:close(S) end end,
  (fun Accept() -> {ok, S} = gen_tcp:accept(L), spawn(fun() -> Serve(S) end), Accept() end)()
end)."""


@dataclass(frozen=True, slots=True)
class RabbitKind:
    """The machine's RabbitMQ: its name in the report, its start script and Erlang's name service."""

    name: str
    version: str
    script: Path
    epmd: Path


@cache
def rabbitmq_kind() -> RabbitKind | None:
    """The machine's RabbitMQ, where there is one that any user may start."""
    epmd, erl, named = (_program(name) for name in ("epmd", "erl", "rabbitmq-server"))
    scripts = [_SCRIPTS / "rabbitmq-server", *([named, named.resolve()] if named else [])]
    script = next((script for script in scripts if (script.parent / "rabbitmq-env").exists()), None)
    if script is None or epmd is None or erl is None:
        return None
    library = next(iter(script.resolve().parent.parent.glob("plugins/rabbit-[0-9]*")), None)
    version = ".".join(library.name.removeprefix("rabbit-").split(".")[:2]) if library else "unknown"
    return RabbitKind(f"rabbitmq-{version} (machine)", version, script, epmd)


def rabbitmq_installed() -> bool:
    """Whether the machine has a RabbitMQ, even if the tests find no way to start it."""
    return _program("rabbitmq-server") is not None


def _program(name: str) -> Path | None:
    found = shutil.which(name, path=_search_path())
    return Path(found) if found else None


def _search_path() -> str:
    return os.pathsep.join([*os.get_exec_path(), *_SYSTEM_FOLDERS])


class RabbitServer:
    """One node. `settings`: lines of rabbitmq.conf; `tls`: the directory of tests.support.certificates."""

    def __init__(
        self,
        kind: RabbitKind,
        settings: Mapping[str, object] | None = None,
        *,
        tls: Path | None = None,
        directory: Path | None = None,
    ) -> None:
        self.kind = kind
        self.directory = directory or server_directory("rabbitmq")
        self.port, self.tls_port = free_port(), free_port() if tls else 0
        self.tls = tls
        self._settings = settings or {}
        self._epmd_port, self._distribution_port = free_port(), free_port()
        self._epmd: ServerProcess | None = None
        self._process: ServerProcess | None = None

    @property
    def process(self) -> ServerProcess:
        assert self._process is not None, "the server was not started"
        return self._process

    @property
    def control(self) -> Control:
        """The way to its users, virtual hosts and alarms."""
        return Control(self.directory / "control", self.port)

    def start(self) -> RabbitServer:
        """Start it, on the data that an earlier run left, and wait until it accepts connections."""
        self._write_files()
        if self._epmd is None:
            names: list[str | Path] = [self.kind.epmd, "-port", str(self._epmd_port), "-address", "127.0.0.1"]
            self._epmd = ServerProcess(names, log=self.directory / "epmd.log", env=self._environment())
            self._epmd.wait_ready(lambda: _listens(self._epmd_port))
        expression = _LISTENER.replace("PATH", str(self.directory / "control"))
        command: list[str | Path] = [self.kind.script, "-eval", expression]
        self._process = ServerProcess(command, log=self.directory / "log", env=self._environment())
        self._process.wait_ready(self._answers, timeout=120)
        return self

    def _write_files(self) -> None:
        settings: dict[str, object] = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "disk_free_limit.absolute": "1MB",
            "log.file": "false",
            "log.console": "true",
            "log.console.level": "info",
        }
        if self.tls:
            settings["listeners.ssl.1"] = f"127.0.0.1:{self.tls_port}"
            settings["ssl_options.cacertfile"] = self.tls / "ca.pem"
            settings["ssl_options.certfile"] = self.tls / "server.pem"
            settings["ssl_options.keyfile"] = self.tls / "server.key"
            settings["ssl_options.verify"] = "verify_peer"
            settings["ssl_options.fail_if_no_peer_cert"] = "false"
        lines = [f"{name} = {value}\n" for name, value in (settings | dict(self._settings)).items()]
        (self.directory / "rabbitmq.conf").write_text("".join(lines))
        (self.directory / "rabbitmq-env.conf").write_text("")  # else the machine's is read
        (self.directory / "enabled_plugins").write_text("[].")
        (self.directory / "control").unlink(missing_ok=True)

    def _environment(self) -> dict[str, str]:
        """Everything that RabbitMQ would else take from the machine's own installation."""
        return {
            "PATH": _search_path(),
            "LANG": "C.UTF-8",
            "HOME": str(self.directory),  # of the Erlang cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"dvctl{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _LIGHT,
            "RUNNING_UNDER_SYSTEMD": "1",  # the script then becomes the node: signals reach it, no shell stands between
        }

    def _answers(self) -> bool:
        try:
            return self.control.evaluate("rabbit:is_running()") == "true" and _listens(self.port)
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM: an orderly end."""
        self.process.thaw()
        self.process.send(signal.SIGTERM)

    def kill9(self) -> None:
        self.process.kill9()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    def restart(self, *, kill: bool = True) -> None:
        """End it, by kill -9 unless told otherwise, and start it again on the same ports and data."""
        self.kill9() if kill else self.stop()
        self.start()

    def tls_url(self, url: str) -> str:
        """The same virtual host and user on the TLS port."""
        return url.replace("amqp://", "amqps://").replace(f":{self.port}/", f":{self.tls_port}/")

    def detach(self) -> None:
        """Leave it running after this process."""
        for process in (self._process, self._epmd):
            if process is not None:
                process.popen.returncode = 0

    def remove(self) -> None:
        """End it for good and remove its directory."""
        for process in (self._process, self._epmd):
            if process is not None:
                process.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Control:
    """A node that runs, whoever started it: its virtual hosts, users, rights and alarms.

    Alarms, and the end of all connections, are for a node of a test's own: other tests publish on the shared one.
    """

    path: Path
    port: int

    def evaluate(self, expression: str) -> str:
        """The value of an Erlang expression inside the node. Raises ServerFailed with its error."""
        text = f"{expression}.".encode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(WAIT_S)
            connection.connect(str(self.path))
            connection.sendall(struct.pack(">I", len(text)) + text)
            length = _received(connection, 4)
            answer = _received(connection, struct.unpack(">I", length)[0]).decode()
        if not answer.startswith("+"):
            raise ServerFailed(f"{expression}: {answer[1:]}")
        return answer[1:]

    def vhost(self) -> str:
        """The URL of a fresh virtual host, with a user of its own who may do everything there."""
        name = f"v{os.getpid()}-{next(_numbers)}"
        self._done(f'rabbit_vhost:add(<<"{name}">>, <<"test">>)')
        return self.user(f"amqp://127.0.0.1:{self.port}/{name}")

    def user(self, url: str, *, configure: str = ".*", write: str = ".*", read: str = ".*") -> str:
        """The URL of a new user of this virtual host, with these rights (regular expressions; "" is none)."""
        vhost, name = urlsplit(url).path[1:], f"u{os.getpid()}-{next(_numbers)}"
        self._done(f'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"secret">>, <<"test">>)')
        rights = ", ".join(f'<<"{text}">>' for text in (configure, write, read))
        self._done(f'rabbit_auth_backend_internal:set_permissions(<<"{name}">>, <<"{vhost}">>, {rights}, <<"test">>)')
        return f"amqp://{quote(name)}:secret@127.0.0.1:{self.port}/{vhost}"

    def drop(self, url: str) -> None:
        """Delete the virtual host and the URL's user."""
        parts = urlsplit(url)
        self._done(f'rabbit_vhost:delete(<<"{parts.path[1:]}">>, <<"test">>)')
        self._done(f'rabbit_auth_backend_internal:delete_user(<<"{parts.username}">>, <<"test">>)')

    def memory_alarm(self, on: bool) -> None:
        """Raise or clear the memory alarm: while it is on, the node reads nothing from those who publish."""
        self._done(f"vm_memory_monitor:set_vm_memory_high_watermark({0.0 if on else 0.4})")

    def close_connections(self) -> None:
        """Close every client's connection, as an operator can."""
        self.evaluate('[rabbit_networking:close_connection(C, "test") || C <- rabbit_networking:connections()]')

    def _done(self, expression: str) -> None:
        if (value := self.evaluate(expression)) != "ok":
            raise ServerFailed(f"{expression}: {value}")


_numbers = itertools.count(1)


def shared_rabbitmq(kind: RabbitKind, directory: Path) -> Control:
    """The node that all processes of a test run share: the first to need it starts it.

    directory: guarded by the process that outlives the others. The end of that process is the end of the node.
    """
    home = directory / "rabbitmq"
    with (directory / "rabbitmq.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        port = home / "port"
        if not port.exists():
            shutil.rmtree(home, ignore_errors=True)  # of a start that failed
            home.mkdir()
            server = RabbitServer(kind, directory=home).start()
            server.detach()
            port.write_text(str(server.port))
        return Control(home / "control", int(port.read_text()))


def _received(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        part = connection.recv(size - len(received))
        if not part:
            raise ConnectionError("the node closed the connection")
        received += part
    return received


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
