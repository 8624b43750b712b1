"""A psycopg connection that does not wait for a silent server without end."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo, timeout_from_conninfo
from psycopg.rows import TupleRow

from devicevault_cli.errors import BadConfig
from devicevault_cli.repository.errors import from_libpq_attempts, from_libpq_connect, no_answer
from devicevault_cli.repository.url import DatabaseUrl

T = TypeVar("T")

ANSWER_S = 75.0
"""How long a silent server is waited for: longer than the lock and statement timeouts together."""


# Half a minute without a sign of life ends the connection, also when the network swallows packets.
CONNECT = {
    "connect_timeout": "10",
    "client_encoding": "UTF8",
    "keepalives": "1",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
# Of several hosts the primary is looked for, and one that is frozen does not hold the others up for long.
CONNECT_TO_ONE_OF_SEVERAL = {"connect_timeout": "3", "target_session_attrs": "read-write"}


_ATTEMPT = re.compile(r"^- host: '(.*?)', port: (?:'(\d*)'|None), hostaddr: .*?: (.*)$", re.MULTILINE)
"""A line in psycopg's account of hosts that were tried in vain: host, port, what libpq said."""


class LimitedConnection(psycopg.Connection[TupleRow]):
    """A server that is frozen neither answers nor hangs up, and its own timeouts stand still with it: so a silence of
    more than `silence_s` seconds raises psycopg.OperationalError.
    """

    silence_s = ANSWER_S

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """psycopg's own wait, limited."""
        return super().wait(self._limited(gen), interval, timeout)

    @contextmanager
    def allowing(self, seconds: float) -> Iterator[None]:
        """Allow the server so much silence meanwhile, for statements known to take long."""
        before, self.silence_s = self.silence_s, seconds
        try:
            yield
        finally:
            self.silence_s = before

    def _limited(self, gen: PQGen[T]) -> Generator[Any, Any, T]:
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.silence_s:
                    raise psycopg.OperationalError(f"no answer within {self.silence_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value


def conninfo(url: DatabaseUrl, application_name: str) -> str:
    """The URL with dvctl's defaults, as libpq takes it. Raises BadConfig."""
    try:
        given = conninfo_to_dict(url.text)
    except psycopg.ProgrammingError:
        raise BadConfig("the database URL cannot be read by libpq", hint="check its options") from None
    defaults = CONNECT | (CONNECT_TO_ONE_OF_SEVERAL if url.names_several else {})
    values = defaults | {"application_name": application_name} | given
    try:
        timeout_from_conninfo(values)
    except psycopg.ProgrammingError:
        message = "connect_timeout in the database URL is not a number"
        raise BadConfig(message, hint="correct it in --database-url or DEVICEVAULT_DATABASE_URL") from None
    return make_conninfo(**{name: str(value) for name, value in values.items()})


def connect(conninfo: str, where: str) -> LimitedConnection:
    """Log in, where several hosts are named to the first that can be used. Raises Unavailable, Refused, BadConfig."""
    try:
        return LimitedConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        if attempts := _ATTEMPT.findall(str(error)):
            raise from_libpq_attempts(attempts, where) from None
        if isinstance(error, psycopg.errors.ConnectionTimeout):
            raise no_answer(where, timeout_from_conninfo(conninfo_to_dict(conninfo))) from None
        raise from_libpq_connect(str(error), where) from None
