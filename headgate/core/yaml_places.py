"""Reads YAML and remembers on which line everything stands."""

from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic.alias_generators import to_camel

from headgate.core.problems import Path, Problem

MAX_NODES = 10_000
"""More than any spec has; an alias that unfolds into itself again and again ends here."""


@dataclass(slots=True)
class Places:
    """Where each path begins, counted from line 1."""

    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    nodes: int = 0

    def line(self, path: Path) -> int:
        """The line of a path, or of what encloses it when the path itself is not written."""
        return self.order(path)[0]

    def order(self, path: Path) -> tuple[int, int]:
        """Line and column, to sort by."""
        wanted = _plain(path)
        # The root is always there.
        enclosing = (wanted[:length] for length in range(len(wanted), -1, -1))
        return next(self.marks[one] for one in enclosing if one in self.marks)


def read_places(text: str) -> tuple[Any, Places, list[Problem]]:
    """The data, the places, and the keys that stand twice (YAML would silently keep the last).

    Raises:
        yaml.YAMLError: it is not YAML, or not plain data.
        RecursionError: it is nested too deep.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        places, problems = Places(), list[Problem]()
        if node is None:
            return None, places, problems
        _walk(node, (), places, problems)
        return loader.construct_document(node), places, problems
    finally:
        loader.dispose()


def _walk(node: yaml.Node, path: Path, places: Places, problems: list[Problem]) -> None:
    places.nodes += 1
    if places.nodes > MAX_NODES:
        raise yaml.MarkedYAMLError(problem=f"more than {MAX_NODES:,} values", problem_mark=node.start_mark)
    places.marks.setdefault(_plain(path), (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*path, index), places, problems)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value)
            line = key.start_mark.line + 1
            if to_camel(name) in seen:
                first = seen[to_camel(name)]
                problems.append(
                    Problem((*path, name), f"{name!r} stands twice, first on line {first}", "keep one")
                )
            seen.setdefault(to_camel(name), line)
            places.marks[_plain((*path, name))] = (line, key.start_mark.column + 1)
            _walk(value, (*path, name), places, problems)


def _plain(path: Path) -> Path:
    """One spelling for `setWeight` and `set_weight`."""
    return tuple(to_camel(part) if isinstance(part, str) else part for part in path)
