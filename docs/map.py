"""Writes the map of the code into ARCHITECTURE.md, one line a file; `--check` fails when it is stale."""

import ast
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- map: written by `make map` -->", "<!-- end of map -->"


def code_map() -> str:
    """The map as markdown: a heading per folder, a line per file with the first line of its docstring."""
    files = sorted(
        path.relative_to(ROOT)
        for top in ("flows", "tasks", "headgate", "benchmarks")
        for path in (ROOT / top).rglob("*.py")
    )
    parts = []
    for folder, members in groupby(
        sorted(files, key=lambda path: (path.parent, path.name)), key=lambda path: path.parent
    ):
        lines = [f"- `{path.name}`: {_first_line(path)}" for path in members if _first_line(path)]
        if lines:
            parts.append(f"### {folder}/\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _first_line(path: Path) -> str:
    return (ast.get_docstring(ast.parse((ROOT / path).read_text())) or "").partition("\n")[0]


def page() -> str:
    """ARCHITECTURE.md with the map as it should be now."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{code_map()}\n{END}{after}"


if __name__ == "__main__":
    if "--check" in sys.argv:
        if page() != PAGE.read_text():
            sys.exit("ARCHITECTURE.md is stale; run `make map`")
    else:
        PAGE.write_text(page())
