"""Whether storage dispatch is on, and why not: what every command says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from devicevault_cli.broker.inspection import check_installed
from devicevault_cli.broker.url import parse_broker_url
from devicevault_cli.errors import BadConfig
from devicevault_cli.operations.answer import Answer, optional
from devicevault_cli.settings import Setting, Settings

Why: TypeAlias = Literal["configured", "no-dispatch", "no-broker", "no-configurations", "not-usable"]


@dataclass(frozen=True, slots=True)
class DispatchState(Answer):
    """`dispatch` of `status` and `config`. `broker`: without users and passwords.

    `detail`: what `why` refers to, such as the option that was given.  `hint`: what to do where the broker that is
    configured cannot be used.
    """

    on: bool
    broker: str | None
    why: Why
    detail: str
    hint: str | None = optional()

    @property
    def line(self) -> str:
        """For people."""
        return f"on, through {self.broker} ({self.detail})" if self.on else f"off ({self.detail})"


def dispatch_state(settings: Settings) -> DispatchState:
    """What the settings say; the broker is not asked."""
    if not settings.pipeline.dispatches:
        detail = f"messages of the {settings.pipeline.name} pipeline bring no configurations"
        return DispatchState(False, None, "no-configurations", detail)
    if settings.no_dispatch:
        return DispatchState(False, None, "no-dispatch", _source(settings["no_dispatch"]))
    source = _source(settings["broker_url"])
    try:
        url = settings.broker_url
        if url is None:
            return DispatchState(False, None, "no-broker", "no broker is configured")
        shown = ", ".join(address.shown for address in parse_broker_url(url))
        check_installed()
    except BadConfig as error:
        return DispatchState(False, None, "not-usable", str(error), hint=error.hint)
    return DispatchState(True, shown, "configured", source)


def _source(setting: Setting) -> str:
    return setting.detail or setting.source
