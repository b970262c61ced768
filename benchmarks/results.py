"""Writing what was measured: JSON beside, a table on the terminal."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).with_name("results")


def machine() -> dict[str, Any]:
    """What it was measured on, and how busy that was."""
    return {
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "system": platform.platform(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def publish(
    name: str,
    facts: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    more: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> None:
    """Write `results/NAME.json` and print the rows, and those of further tables by title."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    tables = {title: list(found) for title, found in (more or {}).items()}
    path.write_text(json.dumps({**facts, "rows": list(rows), **tables}, indent=2) + "\n")
    console = Console(width=max(150, Console().width))
    for title, found in ((facts.get("title", ""), rows), *tables.items()):
        console.print(_table(f"{name}: {title}", found))
    for key, value in facts.items():
        if key != "title":
            console.print(f"{key}: {value}", highlight=False)
    console.print(f"written to {path}")


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in columns:
        table.add_column(column, justify="left" if isinstance(rows[0].get(column), str) else "right")
    for row in rows:
        table.add_row(*(_shown(row.get(column)) for column in columns))
    return table


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ± ".join(f"{part:,.0f}" if abs(part) >= 10 else f"{part:.3f}" for part in value)
    if isinstance(value, float):
        return f"{value:.4f}" if 0 < abs(value) < 1 else f"{value:,.2f}"
    return "" if value is None else str(value)
