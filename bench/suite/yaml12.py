"""YAML 1.2: `5e-4` is a number, `yes` and `2026-01-01` are strings, and duplicate keys are refused.

PyYAML implements version 1.1. Its parser is used with the scalars of version 1.2: null, true and false, decimal
integers and floats. Everything else is a string, including `0x10` and `.inf`, and there is no other tag and no merge.
What is read is bounded: a few hundred bytes whose aliases name each other would fill the memory otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import yaml

MOST_VALUES = 50_000
"""Values, keys included, in one document, each alias counted with all that it stands for."""
DEEPEST = 20
"""Lists and mappings within each other."""
MOST_DIGITS = 1000
"""Of a whole number; Python itself has a limit somewhat above."""


def parse(text: str) -> Any:
    """The value of a YAML document, in which no object occurs twice; raises yaml.YAMLError of one line."""
    try:
        node = yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        raise _refused(error.problem or error.context or "cannot be read", place) from None
    except yaml.reader.ReaderError as error:
        raise _refused(f"the control character {chr(error.character)!r}, number {error.position + 1}", None) from None
    except (ValueError, OverflowError) as error:  # from numbers in escapes and directives
        raise _refused(str(error), None) from None
    return None if node is None else _Values().of(node, ())


def _refused(problem: str, mark: yaml.Mark | None) -> yaml.YAMLError:
    return yaml.YAMLError(f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem)


def _int(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"more than {MOST_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("beyond 1.8e308")
    return value


_TAG = "tag:yaml.org,2002:"
_SCALARS: dict[str, tuple[str, str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", "~nN", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9]+", "-+0123456789", _int),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789", _float),
}
"""Type -> the form of its scalars, their first characters, and how they are read."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters that no name or value needs: they would steer the terminal, and surrogates cannot be written."""


class _Dumper(yaml.SafeDumper):
    """PyYAML's, with quotes around what would be no string here either."""


for _name, (_form, _first, _) in _SCALARS.items():
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(f"(?:{_form})$"), [*_first])


def dump(value: Any, **style: Any) -> str:
    """A value as YAML that is the same value here and in version 1.1, keys in their order. `style`: of PyYAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, **style)


class _Loader(yaml.SafeLoader):
    """PyYAML's, stopping as soon as a document is too deep or too long: both cost more than they add."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's way)

    def __init__(self, stream: str):
        super().__init__(stream)
        self.depth = self.values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.values += 1
        self.depth += 1
        if problem := _too_much(self.values, self.depth):
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _too_much(values: int, depth: int) -> str:
    if depth > DEEPEST + 1:  # a scalar in the deepest of them is one more
        return f"more than {DEEPEST} lists and mappings within each other"
    return f"more than {MOST_VALUES} values" if values > MOST_VALUES else ""


for _kind, (_pattern, _first, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(
        _TAG + _kind, re.compile(rf"^(?:{_pattern})\Z"), [*_first, ""] if _kind == "null" else [*_first]
    )


class _Values:
    """Nodes -> values. Counts them, since an alias is expanded wherever it stands."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, node: yaml.Node, within: tuple[yaml.Node, ...]) -> Any:
        """The value of a node that lies in the nodes `within`."""
        self.count += 1
        if node in within:
            raise _refused("a mapping or list that holds itself", node.start_mark)
        if problem := _too_much(self.count, len(within) + 1):
            raise _refused(f"{problem}, those of its aliases included", node.start_mark)
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._mapping(node, (*within, node))
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self.of(part, (*within, node)) for part in node.value]
        if isinstance(node, yaml.ScalarNode) and kind in ("str", *_SCALARS):
            return _scalar(node, kind)
        raise _refused(f"the tag {kind!r} has no meaning here", node.start_mark)

    def _mapping(self, node: yaml.MappingNode, within: tuple[yaml.Node, ...]) -> dict[Any, Any]:
        """Refuses duplicate keys, of which PyYAML would silently keep the last."""
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused("a key that is no scalar", key_node.start_mark)
            key = self.of(key_node, within)
            if key in found:
                raise _refused(f"the key {key!r} stands there twice", key_node.start_mark)
            found[key] = self.of(value_node, within)
        return found


def _scalar(node: yaml.ScalarNode, kind: str) -> Any:
    text = node.value
    if bad := CONTROL.search(text):
        raise _refused(f"the control character {bad[0]!r} in a word", node.start_mark)
    if kind == "str":
        return text
    pattern, _, read = _SCALARS[kind]
    try:
        if not re.fullmatch(pattern, text):
            raise ValueError("not of that form")
        return read(text)
    except ValueError as error:
        raise _refused(f"{text!r} cannot be read as {kind}: {error}", node.start_mark) from None
