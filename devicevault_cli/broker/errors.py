"""What errors of kombu, py-amqp and redis-py mean, each with what an operator can do."""

from __future__ import annotations

import shlex
import ssl

from amqp.exceptions import AccessRefused, AMQPError, ChannelError, NotAllowed
from kombu.exceptions import OperationalError

from devicevault_cli.broker.url import BrokerAddress
from devicevault_cli.errors import BadConfig, DvctlError, Refused, Unavailable
from devicevault_cli.redact import scrub

_REACH = "check that the broker is running, and its address in --broker-url or CELERY_BROKER_URL"
_REACH_OR_TLS = f"{_REACH}; if the port is one of TLS, write amqps:// or rediss://"
_TLS = "check ssl_ca_certs and the host name in --broker-url or CELERY_BROKER_URL"
_NO_TLS = (
    "check the port in --broker-url or CELERY_BROKER_URL: it does not speak TLS (amqp:// and redis:// are without)"
)
_LOGIN = "check user, password and virtual host in --broker-url or CELERY_BROKER_URL"
_REDIS_HINTS = {
    "OutOfMemory": "free memory or raise maxmemory of the broker; see whether the storage workers run",
    "ReadOnly": "--broker-url or CELERY_BROKER_URL names a replica: give the address of its primary",
    "WRONGTYPE": "a key storage.git, storage.fs or _kombu.binding.* is no list or set: rename it",
    "MISCONF": "the broker cannot write its snapshot: free disk space, see its log",
    "NOREPLICAS": "see why the replicas of the broker are away (min-replicas-to-write)",
}
"""By redis-py's class, or by the code of Redis."""


def grant(address: BrokerAddress) -> str:
    """What gives a user of RabbitMQ every right that dispatch needs; rights are set anew, not added."""
    where = f"-p {shlex.quote(address.place)} {shlex.quote(address.user)}"
    rights = r"'^storage\.' '^(amq\.default$|storage\.)' '^storage\.'"
    return f"`rabbitmqctl set_permissions {where} {rights}`, which replaces the rights of this user"


def translate(error: BaseException, address: BrokerAddress) -> DvctlError:
    """What an error of kombu, py-amqp or redis-py means."""
    where = address.shown
    if isinstance(error, OperationalError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, AccessRefused):
        if error.method_sig in ((0, 0), (10, 50)) or "login" in reply(error).lower():
            return Refused(f"{where} refuses the login: {reply(error)}", hint=_LOGIN)
        return Refused(f"{where} refuses: {reply(error)}", hint=f"grant what dispatch needs: {grant(address)}")
    if isinstance(error, NotAllowed):
        return Refused(f"{where}: {reply(error)}", hint=_LOGIN)
    if isinstance(error, (ChannelError, AMQPError)):
        return Unavailable(f"{where}: {reply(error)}", hint="see the log of the broker")
    if address.kind == "redis" and (found := _redis_refusal(error, address)):
        return found
    return _translate_other(error, address)


def _redis_refusal(error: BaseException, address: BrokerAddress) -> DvctlError | None:
    """What a reply of Redis means that is an error; redis-py has classes for some, and cuts the code off."""
    where, kind, text = address.shown, type(error).__name__, scrub(str(error))
    if kind.startswith("Authentication") or text.startswith(("NOAUTH", "WRONGPASS")):
        return Refused(
            f"{where} refuses the login", hint="check user and password in --broker-url or CELERY_BROKER_URL"
        )
    if kind == "NoPermissionError" or text.startswith("NOPERM"):
        user, select = shlex.quote(address.user or "default"), " +select" if address.place != "0" else ""
        grant = f"ACL SETUSER {user} +lpush +sadd +llen +multi +exec +ping{select} '~storage.*' '~_kombu.*'"
        return Refused(f"{where} refuses: {text}", hint=f"as an administrator: {grant}")
    if "DB index is out of range" in text:
        return BadConfig(f"{where}: there is no such database", hint="check the number at the end of --broker-url")
    for word, hint in _REDIS_HINTS.items():
        if kind.startswith(word) or word in text:
            return Unavailable(f"{where} takes no messages: {text}", hint=hint)
    return None


def _translate_other(error: BaseException, address: BrokerAddress) -> DvctlError:
    where, kind, text = address.shown, type(error).__name__, scrub(str(error)) or type(error).__name__
    if isinstance(error, (TimeoutError, BlockingIOError)) or kind == "TimeoutError":  # SO_SNDTIMEO ends in EAGAIN
        return Unavailable(f"{where} did not answer in time: {text}", hint=_REACH)
    if isinstance(error, ssl.SSLError):
        return Unavailable(f"{where}: TLS failed: {text}", hint=_NO_TLS if "WRONG_VERSION" in text else _TLS)
    if isinstance(error, FileNotFoundError) or (isinstance(error, PermissionError) and address.tls):
        files = "ssl_ca_certs, ssl_certfile and ssl_keyfile"
        return BadConfig(
            f"{where}: a file for TLS cannot be read: {text}",
            hint=f"check {files} in --broker-url or CELERY_BROKER_URL",
        )
    if isinstance(error, OSError):
        hint = _REACH if address.tls or isinstance(error, ConnectionRefusedError) else _REACH_OR_TLS
        return Unavailable(f"{where} cannot be reached: {error.strerror or text}", hint=hint)
    hint = (
        "check that the port in --broker-url or CELERY_BROKER_URL is a Redis server"
        if kind == "InvalidResponse"
        else _REACH
    )
    return Unavailable(f"{where}: {text}", hint=hint)


def reply(error: AMQPError) -> str:
    """The broker's own words, without the code and the method."""
    return scrub(str(error.reply_text or error))[:200]
