"""Takes secrets out of URLs and of text that may quote one."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import SplitResult

UNREADABLE = "(a URL that cannot be read, not shown)"

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = r"(?:\[[0-9a-fA-F:.%]*\]|[^\s:@/?#\[\],]*)(?::[0-9]{0,5})?"
_PLACE = re.compile(rf"{_HOST}(?:,{_HOST})*(?:[/?].*)?", re.DOTALL)
"""Hosts with their ports, and what follows. Where a password lacks its `@`, it stands in the place of a port."""
_PARAMETER = re.compile(r"(?<=[?&;])([^=&;#]*)=[^&;#]*")
_HARMLESS = frozenset(
    (
        *("application_name", "channel_binding", "charset", "client_encoding", "connect_timeout", "db", "dbname"),
        *("gssencmode", "host", "hostaddr", "options", "port", "protocol", "service", "socket_timeout", "ssl_ca"),
        *("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile", "ssl_min_version"),
        *("sentinel_username", "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs"),
        *("unix_socket", "user"),
    )
)
"""Parameters whose values are shown. Of any other, a misspelt `pasword` included, nobody knows."""
# Without quotes, brackets and stops behind it. With one slash: so a path is shown that is a URL by mistake.
_IN_TEXT = re.compile(r"\b([a-zA-Z][a-zA-Z0-9+.-]+):(?://|/(?=\S*@))(\S*[^\s'\"`<>.,;:!?)\]])")


def redact(url: str) -> str:
    """Show a URL without its password. What cannot be read as a URL is not shown at all."""
    match = _URL.fullmatch(url)
    if not match or any(character.isspace() for character in url):
        return UNREADABLE
    scheme, rest = match.groups()
    # The last @ ends the user info, whatever the password holds: too much may be hidden, never too little.
    userinfo, at, place = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    # Redis: a lone user name is more often a password whose colon was forgotten.
    name = user if colon or not scheme.startswith(("redis", "unix")) else "***"
    if "/" in name or not _PLACE.fullmatch(place) or (scheme == "sqlite" and not place.startswith("/")):
        return UNREADABLE
    shown = f"{name}{':***' if colon else ''}@{place}" if at else place
    return f"{scheme}://" + _PARAMETER.sub(_hidden, shown)


def _hidden(parameter: re.Match[str]) -> str:
    """A parameter, its value only if it is none that could be a secret."""
    return parameter[0] if parameter[1] in _HARMLESS else f"{parameter[1]}=***"


_COMMAND = re.compile(r"Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
_ARGUMENTS = re.compile(r",? with args beginning with: .*", re.DOTALL)
_QUOTED = re.compile(r"""b?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""", re.DOTALL)


def without_command(text: str) -> str:
    """An error without the command that redis-py and Redis quote in it: a device's configuration may stand there."""
    return _ARGUMENTS.sub("", _COMMAND.sub("", text))


def scrub(text: str) -> str:
    """Take secrets out of the text of a foreign error: commands, URLs, and the row that PostgreSQL quotes in DETAIL."""
    text = re.sub(r"\s*DETAIL: .*", "", without_command(text), flags=re.DOTALL)
    return scrub_urls(text)


def scrub_urls(text: str) -> str:
    """The text with every URL in it shown without its password."""
    return _IN_TEXT.sub(lambda match: redact(f"{match[1]}://{match[2]}"), text)


def explain(error: BaseException) -> str:
    """The text of a foreign error, without the value that Python quotes where one cannot be converted or found."""
    text = scrub(str(error))
    return _QUOTED.sub("'...'", text) if isinstance(error, (ValueError, LookupError)) else text


def invisible(text: str) -> str | None:
    """What stands in a URL or name that nobody sees, as the end of a sentence; None where nothing does.

    Spaces are let through, and bytes that are not UTF-8 (lone surrogates).
    """
    if text.rstrip("\r\n") != text:
        return "ends with a line break"
    if any(unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} for character in text):
        return "has a control character in it"
    return None


def is_whole(parts: SplitResult) -> bool:
    """Whether a URL has been taken apart where it was meant to be.

    A `/`, `?` or `#` in a password ends the host too early: what stood before it would be taken for a host and port,
    and named in messages.
    """
    pieces = parts.query.split("&") if parts.query else []
    return not parts.fragment and "@" not in parts.path and all("=" in piece for piece in pieces)
