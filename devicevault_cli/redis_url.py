"""Redis URLs: checked before anything connects. A message names the part that is wrong, never its text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from devicevault_cli.errors import BadConfig
from devicevault_cli.redact import invisible, is_whole

SCHEMES = ("redis", "rediss", "unix")
_LATER = ("redis+cluster", "redis+sentinel", "rediss+cluster", "rediss+sentinel")
_HINT = (
    "write it as redis://[:PASSWORD@]HOST:PORT/DB, rediss://... or unix:///SOCKET?db=DB; in a"
    " password write @ : / ? # % as %40 %3A %2F %3F %23 %25"
)
_WHOLE = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)


def check_redis_url(url: str, name: str = "the Redis URL") -> None:
    """Raise BadConfig, which does not repeat the URL, for one that redis-py would refuse or read as another."""
    problem = _problem(url)
    if problem:
        raise BadConfig(f"{name} {problem}", hint=_HINT)


def _problem(url: str) -> str | None:
    """What is wrong, as the end of a sentence that begins with "the Redis URL"."""
    if hidden := invisible(url):
        return hidden
    if any(map(str.isspace, url)):
        return "has a space in it"
    scheme, separator, _ = url.partition("://")
    if separator and scheme in _LATER:
        return f"begins with {scheme}://, which dvctl does not support yet"
    if not separator or scheme not in SCHEMES:
        return "cannot be read: it does not begin with redis://, rediss:// or unix://"
    try:
        url.encode()
        parts = urlsplit(url)
    except UnicodeEncodeError:
        return "is not UTF-8"
    except ValueError:
        return "cannot be read: its host is not a host name or an address"
    if not is_whole(parts) or "@" in parts.query:
        return "cannot be read: it has an @, # or ? that is part of no password, host or option"
    options = parse_qsl(parts.query, keep_blank_values=True)
    return _wrong_place(parts) or _wrong_options(options, parts)


def _wrong_place(parts: SplitResult) -> str | None:
    """Of host, port and database, or the path of the socket."""
    if parts.scheme == "unix":
        if parts.netloc.rpartition("@")[2]:
            return "has a host before the path of the socket: a path begins with a third slash, unix:///PATH"
        return None if parts.path.strip("/") else "has no path of a socket"
    try:
        if parts.port == 0:
            raise ValueError
    except ValueError:
        return "has a port that is not a number from 1 to 65535"
    try:
        unquote(parts.hostname or "").encode("idna")
    except ValueError:
        return "has a host that is not a host name or an address"
    database = parts.path.removeprefix("/").removesuffix("/")
    if "/" in database:
        return "has more than one part after the host: only the database number stands there"
    return _database(database) if parts.path not in ("", "/") else None


def _wrong_options(options: list[tuple[str, str]], parts: SplitResult) -> str | None:
    elsewhere = {
        "db": parts.scheme != "unix" and parts.path not in ("", "/"),
        "username": parts.username is not None,
        "password": parts.password is not None,
    }
    seen = {name for name, given in elsewhere.items() if given}
    for name, value in options:
        if name not in _OPTIONS:
            return f"has an unknown option {name[:40]!r}"
        if name in seen:
            return f"gives {name} more than once"
        if name.startswith("ssl_") and parts.scheme != "rediss":
            return f"has the option {name}, which needs rediss://"
        if wrong := _OPTIONS[name](value):
            return wrong if name == "db" else f"has the option {name}, {wrong}"
        seen.add(name)
    return None


# --- what a value must be: each -> what is wrong, as the end of a sentence, or None ----------------------------------

_Check = Callable[[str], str | None]


def _database(text: str) -> str | None:
    whole = _WHOLE.fullmatch(text) and int(text) < 2**31
    return None if whole else "has a database that is not a number such as 0 or 1"


def _text(text: str) -> str | None:
    return None if text else "which is empty"


def _flag(text: str) -> str | None:
    # These alone: redis-py takes any other text, `off` for one, for yes.
    return None if text.lower() in {"true", "false", "yes", "no", "1", "0"} else "which is neither true nor false"


def _seconds(text: str) -> str | None:
    usable = _DECIMAL.fullmatch(text) and math.isfinite(float(text)) and 0 < float(text) <= 3600
    return None if usable else "which is not a number of seconds above 0, 3600 at most"


def _between(least: int, most: int) -> _Check:
    def check(text: str) -> str | None:
        inside = _WHOLE.fullmatch(text) and least <= int(text) <= most
        return None if inside else f"which is not a number from {least} to {most}"

    return check


def _one_of(*choices: str) -> _Check:
    return lambda text: None if text in choices else f"which is not one of {', '.join(choices)}"


_OPTIONS: dict[str, _Check] = {
    "db": _database,
    **dict.fromkeys(("username", "password", "client_name", "ssl_password", "ssl_ca_data", "ssl_ciphers"), _text),
    **dict.fromkeys(("ssl_ca_path", "ssl_include_verify_flags", "ssl_exclude_verify_flags"), _text),
    **dict.fromkeys(("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"), _text),
    **dict.fromkeys(("socket_keepalive", "retry_on_timeout", "ssl_check_hostname"), _flag),
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _seconds),
    "ssl_cert_reqs": _one_of("none", "optional", "required"),
    "ssl_min_version": _between(769, 772),
    "health_check_interval": _between(0, 86_400),
    "max_connections": _between(1, 2**31 - 1),
    "socket_read_size": _between(1, 2**26),
}
"""Options that redis-py knows, without those that would change how dvctl speaks to Redis (`protocol`, for one)."""
