"""Plans made of closures over dicts, until every operation has a Change of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from devicevault_cli.errors import DvctlError
from devicevault_cli.operations.answer import ChosenAnswer
from devicevault_cli.operations.changes.change import Change, Progress, quietly
from devicevault_cli.operations.named import NO_NAMES, Named

__all__ = ["Answer", "Plan", "Progress", "quietly"]

Answer: TypeAlias = dict[str, Any]
"""What a command answers: the keys of its `-o json`."""


@dataclass(frozen=True, slots=True)
class _DictAnswer(ChosenAnswer):
    values: Answer

    def to_dict(self) -> Answer:
        unknown = {"unknown": list(self.unknown)} if self.unknown else {}
        return self.values | unknown | {"applied": self.applied}


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClosureChange(Change[_DictAnswer]):
    applying: Callable[[], Answer]
    looking: Callable[[], bool]
    previewing: Callable[[], Answer]
    failing: Callable[[Answer], str]

    def apply(self) -> _DictAnswer:
        return replace(self.answer, values=self.answer.values | self.applying())

    def still_true(self) -> bool:
        return self.looking()

    def preview(self) -> _DictAnswer:
        return replace(self.answer, values=self.answer.values | self.previewing())

    def failure(self, done: _DictAnswer) -> str:
        return self.failing(done.values)


class Plan:
    """A change made of closures."""

    def __new__(cls, *given: Any, **named: Any) -> Any:
        return _plan(*given, **named)


def _plan(  # noqa: PLR0913, PLR0917
    command: str,
    says: tuple[str, ...],
    answer: Answer,
    size: int,
    apply: Callable[[], Answer],
    still_true: Callable[[], bool],
    refusal: DvctlError | None = None,
    typed: str | None = None,
    preview: Callable[[], Answer] = dict,
    named: Named = NO_NAMES,
    failure: Callable[[Answer], str] = lambda answer: "",
) -> Change[_DictAnswer]:
    return _ClosureChange(
        command=command, says=says, answer=_DictAnswer(answer), size=size, refusal=refusal, typed=typed, named=named,
        applying=apply, looking=still_true, previewing=preview, failing=failure,
    )  # fmt: skip
