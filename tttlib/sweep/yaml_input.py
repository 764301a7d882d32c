"""YAML files and values as people write them; what would be changed in silence is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

LARGEST = 100_000
"""Values that a file may hold once its aliases are written out."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number, where YAML 1.1 sees a string, and refuses ambiguous files."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"{key.value!r} stands twice, again in line {line}")
                seen.add((key.tag, key.value))
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _size(node, {}) > LARGEST:
            raise yaml.YAMLError(f"its aliases stand for more than {LARGEST} values")
        return node


_FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_parameters(path: str | Path) -> dict[str, Any]:
    """Read a YAML file of lines ``name: value``.

    Raises
    ------
    ValueError
        Naming the file, if it is missing, is no YAML, holds a name twice, holds something else
        than names and values, or grows beyond `LARGEST` values through aliases.
    """
    try:
        values = _load(Path(path).read_bytes())
    except FileNotFoundError as error:
        known = ", ".join(sorted(p.name for p in Path(path).parent.glob("*.yaml"))) or "none"
        raise ValueError(f"no parameter file {path}; its folder has {known}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ValueError(f"{path} must hold lines 'name: value', got {values!r:.80}")
    return values


def parse_value(text: str) -> Any:
    """Read a value of the command line: 8, 1e-3, true, [a, b] or plain text.

    Raises
    ------
    ValueError
        If the text is no YAML.
    """
    try:
        return _load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"value {text!r:.200} is no YAML: {' '.join(str(error).split())}") from (
            error
        )


def _load(text: str | bytes) -> Any:
    try:
        return yaml.load(text, _Loader)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
    except ValueError as error:  # a date such as 2026-13-45, or bytes that are no text
        raise yaml.YAMLError(str(error)) from error


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Return the number of values in a node with its aliases written out."""
    if id(node) in sizes:
        if sizes[id(node)] == 0:
            raise yaml.YAMLError("a value contains itself")
        return sizes[id(node)]
    sizes[id(node)] = 0  # being counted
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    sizes[id(node)] = 1 + sum(_size(child, sizes) for child in children)
    return sizes[id(node)]
