"""The demo's end: facts gathered, files written, the table shown."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headgate.demo import models
from headgate.demo.cast import Ready
from headgate.demo.facts import count_logged, read_traffic, read_ways
from headgate.demo.page import write_page
from headgate.demo.picture import draw
from headgate.demo.report import Result, as_json, as_table, broken_promises
from headgate.demo.screen import Screen
from headgate.local import Stack
from headgate.services import Services

LOG_WITHIN_S = 10.0


def gather(
    services: Services, ready: Ready, tally: Mapping[str, Any], folder: Path, seconds: Mapping[str, float]
) -> Result:
    """Read every fact from where it is kept, and write the report, the picture and the page."""
    database = services.settings.required("database_url")
    deadline = time.monotonic() + LOG_WITHIN_S
    while (logged := count_logged(database, models.MODEL)) < tally[
        "requests"
    ] and time.monotonic() < deadline:
        time.sleep(0.2)
    chain = services.store.verify()
    ways = read_ways(services, models.MODEL)
    addresses = ready.stack.addresses
    result = Result(
        ways=ways,
        requests=tally["requests"],
        client_errors=tally["client_errors"],
        logged=logged,
        labels=tally["labels"],
        records=chain.records,
        verified=chain.verified,
        champion=models.champion(addresses["mlflow"]),
        mistakes=tally["mistakes"],
        seconds=seconds,
        addresses={
            "the flow runs in Prefect": f"{addresses['prefect'].removesuffix('/api')}/runs",
            "the versions in MLflow": f"{addresses['mlflow']}/#/models/{models.MODEL}",
            "one rollout, record by record": command(
                ready.stack, f"history {ways[-1].rollout_id}" if ways else "list"
            ),
            "the evidence chain": command(ready.stack, "verify"),
        },
    )
    traffic = read_traffic(database, models.MODEL)
    (folder / "report.json").write_text(json.dumps(as_json(result), indent=2) + "\n")
    (folder / "ramp.png").write_bytes(draw(traffic, ways, "png"))
    (folder / "ramp.html").write_text(write_page(result, draw(traffic, ways, "svg")))
    return result


def command(stack: Stack, verb: str) -> str:
    """A command line that works from here, while the stack runs."""
    here = Path.cwd()
    home, program = stack.home, Path(sys.executable).with_name("headgate")
    parts = [
        str(path.relative_to(here)) if path.is_relative_to(here) else str(path) for path in (home, program)
    ]
    return f"HEADGATE_HOME={parts[0]} {parts[1]} {verb}"


def tell(result: Result, screen: Screen, folder: Path, *, kept: bool) -> list[str]:
    """Show the table and where to look; returns the broken promises."""
    screen.show(as_table(result))
    screen.say(
        f"{result.requests:,} requests, {result.client_errors} failed for a client; "
        f"{result.records} evidence records, {'verified' if result.verified else 'NOT VERIFIED'}"
    )
    for name in ("ramp.html", "ramp.png", "report.json"):
        screen.say(f"{folder / name}")
    for name, address in (result.addresses or {}).items():
        screen.say(f"{name}: {address}" + ("" if kept else "   (with --keep)"))
    wrong = broken_promises(result)
    for one in wrong:
        screen.say(f"not as promised: {one}", "bold red")
    if not wrong:
        screen.say("every fact is as promised", "bold green")
    return wrong
