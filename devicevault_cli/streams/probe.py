"""What listens on an address: first bytes and TLS without redis-py and without a password; INFO where it is Redis."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import redis

from devicevault_cli.errors import DvctlError

CONNECT_S = 2.0
GREETING_S = 0.2
"""A Redis that refuses a connection says so at once; a Redis that accepts it sends nothing before a command."""
ANSWER_S = 1.0
_PING = b"*1\r\n$4\r\nPING\r\n"


def first_bytes(address: Mapping[str, Any]) -> bytes | None:
    """What the server sends unasked, else in answer to PING; b"" where it hangs up; None where it is silent or away."""
    try:
        with closing(_connected(address)) as connection:
            try:
                connection.settimeout(GREETING_S)
                return connection.recv(512)
            except TimeoutError:
                connection.settimeout(ANSWER_S)
                connection.sendall(_PING)
                return connection.recv(512)
    except (ConnectionResetError, BrokenPipeError):
        return b""
    except OSError:
        return None


def speaks_tls(address: Mapping[str, Any]) -> bool:
    """Whether a TLS handshake gets as far as the server's certificate, which is not examined."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with closing(_connected(address)) as connection:
            connection.settimeout(ANSWER_S)
            context.wrap_socket(connection).close()
            return True
    except OSError:
        return False


def server_facts(client: redis.Redis) -> dict[str, str]:
    """INFO server, on a connection that selects no database, which a Sentinel does not have; {} where it is refused."""
    pool = client.connection_pool
    for login in ({}, {"username": None, "password": None}):
        connection = pool.connection_class(**{**pool.connection_kwargs, "db": 0, **login})
        try:
            connection.connect()
            connection.send_command("INFO", "server")
            lines = bytes(connection.read_response()).decode("utf-8", "replace").splitlines()
            return dict(line.split(":", 1) for line in lines if ":" in line)
        except (DvctlError, redis.RedisError, OSError, TypeError, ValueError):
            continue
        finally:
            connection.disconnect()
    return {}


def _connected(address: Mapping[str, Any]) -> socket.socket:
    if "path" in address:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_S)
            connection.connect(str(address["path"]))
        except BaseException:
            connection.close()
            raise
        return connection
    return socket.create_connection((address.get("host", "localhost"), address.get("port", 6379)), CONNECT_S)
