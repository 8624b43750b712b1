"""YAML as plain values. What YAML reads otherwise than it is written is marked, and refused where it is used."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from devicevault_cli.errors import BadConfig
from devicevault_cli.unusable import Unusable


def parse_yaml(text: str, name: str) -> Any:
    """The document, made of dicts, lists, text, whole numbers, None and Unusable. Raises BadConfig without quoting."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadConfig(f"{name}, line {line}: a character that YAML does not allow") from None
    except yaml.MarkedYAMLError as error:
        raise _explained(error, text, name) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadConfig(f"{name} is not plain YAML") from None


def _explained(error: yaml.MarkedYAMLError, text: str, name: str) -> BadConfig:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return BadConfig(f"{name} is not plain YAML")
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    where = f"{name}, line {mark.line + 1}"
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return BadConfig(f"{where}: YAML does not allow tabs for indentation", hint="indent with spaces")
    if isinstance(error, yaml.constructor.ConstructorError) and "constructor for the tag" in str(error.problem):
        return BadConfig(f"{where}: not plain YAML", hint="tags such as !!python/... are refused")
    hint = "check indentation, colons and brackets; put quotes around odd values"
    return BadConfig(f"{where}: not valid YAML", hint=hint)


class _Loader(yaml.SafeLoader):
    """A SafeLoader that marks keys that stand twice, of which PyYAML would take the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        twice = _twice(node)  # before keys are merged in by `<<`, which the own ones may repeat
        return super().construct_mapping(node, deep) | twice


def _twice(node: Any) -> dict[Hashable, Any]:
    found: dict[Hashable, Any] = {}
    first: dict[str, int] = {}
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            line = key.start_mark.line + 1
            if key.value in first:
                found[key.value] = Unusable(line, f"the key stands on line {first[key.value]} already", "remove one")
            first.setdefault(key.value, line)
    return found


def _number(loader: _Loader, node: yaml.ScalarNode) -> int | float | Unusable:
    """A number that reads back as it was written, or Unusable: `012345` is 5349 in YAML, and `12:34:56` is 45296."""
    make = loader.construct_yaml_int if node.tag.endswith(":int") else loader.construct_yaml_float
    try:
        value: int | float = make(node)
    except ValueError:
        return _unquoted(node, "a number")
    return value if str(value) == node.value else _unquoted(node, "another number than it looks like")


_NUMBER_ELSEWHERE = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+|0o[0-7]+", re.ASCII)


def _text(loader: _Loader, node: yaml.ScalarNode) -> str | Unusable:
    if node.style is None and _NUMBER_ELSEWHERE.fullmatch(node.value):
        return _unquoted(node, "a number or as text, by its version")
    return str(loader.construct_scalar(node))


def _unquoted(node: yaml.ScalarNode, kind: str) -> Unusable:
    return Unusable(node.start_mark.line + 1, f"YAML reads the value as {kind}")


_CONSTRUCTORS = {
    "int": _number,
    "float": _number,
    "str": _text,
    "bool": lambda _, node: _unquoted(node, "a boolean"),
    "timestamp": lambda _, node: _unquoted(node, "a date"),
}
for _tag, _constructor in _CONSTRUCTORS.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _constructor)
