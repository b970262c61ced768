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


def publish(name: str, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write `results/NAME.json` and print the rows."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({**facts, "rows": list(rows)}, indent=2) + "\n")
    table = Table(title=f"{name}: {facts.get('title', '')}", title_justify="left")
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(
            *(f"{value:,.2f}" if isinstance(value, float) else str(value) for value in row.values())
        )
    console = Console(width=max(120, Console().width))
    console.print(table)
    for key, value in facts.items():
        if key != "title":
            console.print(f"{key}: {value}", highlight=False)
    console.print(f"written to {path}")
