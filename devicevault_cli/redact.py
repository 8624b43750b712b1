"""Takes secrets out of URLs and of text that may quote one."""

from __future__ import annotations

import re

UNREADABLE = "(a URL that cannot be read, not shown)"

_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://(.*)", re.DOTALL)
_SECRET_PARAMETER = re.compile(r"([?&;](?:[a-z_]*pass(?:word|wd)?|[a-z_]*secret|[a-z_]*token)=)[^&;#]*", re.IGNORECASE)
_IN_TEXT = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://\S+")


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
    if "/" in name:
        return UNREADABLE
    shown = f"{name}{':***' if colon else ''}@{place}" if at else place
    return f"{scheme}://" + _SECRET_PARAMETER.sub(r"\1***", shown)


def scrub(text: str) -> str:
    """Take secrets out of the text of a foreign error: URLs, and the row that PostgreSQL quotes in its DETAIL."""
    text = re.sub(r"\s*DETAIL: .*", "", text, flags=re.DOTALL)
    return _IN_TEXT.sub(lambda match: redact(match[0]), text)
