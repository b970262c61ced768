"""Commands that try a spec on what was logged, before anything is rolled out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.common import JSON, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from headgate.backtest.replay import Run

PATIENCE_S = 2.0
"""A progress bar is shown once it has taken longer."""
HISTORY_HELP = "Folder with predictions.parquet and outcomes.parquet, or folders of these names."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backtest")(backtest)


def backtest(  # noqa: PLR0913 - a command has as many options as it has
    spec: Annotated[Path, typer.Argument(metavar="SPEC")],
    history: Annotated[Path, typer.Option("--history", help=HISTORY_HELP)],
    champion: Annotated[str | None, typer.Option("--champion", help="The version that serves.")] = None,
    challenger: Annotated[str | None, typer.Option("--challenger", help="The version on trial.")] = None,
    aa: Annotated[bool, typer.Option("--aa", help="The champion against itself.")] = False,
    inject: Annotated[
        list[str] | None,
        typer.Option(
            "--inject", help="Fault of the challenger: error=+1%, latency=x1.2, accuracy=-5pp[@step2]."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, max=100_000, help="How many assignments to try.")
    ] = 1,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a picture to this file.")] = None,
    as_json: JSON = False,
) -> None:
    """What would have happened: replay a logged history through the engine that decides in production."""
    from headgate.backtest import many, report
    from headgate.backtest.history import read_history
    from headgate.backtest.inject import Injection
    from headgate.backtest.trial import prepare
    from headgate.specfile import load_spec

    plan = load_spec(spec)
    faults = [Injection.parse(text) for text in inject or ()]
    with _progress(quiet=as_json) as tell:
        log = read_history(history, plan)
        trial = prepare(log, champion, challenger, against_itself=aa)
        del log
        runs = many.replay_many(trial, plan, seeds, injections=faults, progress=tell)
    if plot is not None:
        from headgate.backtest.plot import plot as draw

        draw(runs, plot)
    if seeds == 1:
        found = report.as_json(runs[0])
        print_json(found) if as_json else _show(_page(runs[0], found))
        return
    told = many.summary(runs, against_itself=aa)
    if as_json:
        print_json({**told, "seeds": [many.row(seed, run) for seed, run in enumerate(runs)]})
    else:
        _show(_summary(told))


@contextmanager
def _progress(*, quiet: bool) -> "Iterator[Callable[[float], None]]":
    """A bar on stderr once it takes longer than `PATIENCE_S`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("replaying"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("replay", total=1.0)
    begun, shown = time.monotonic(), False

    def tell(share: float) -> None:
        nonlocal shown
        if quiet or not console.is_terminal or time.monotonic() - begun < PATIENCE_S:
            return
        if not shown:
            bar.start()
            shown = True
        bar.update(task, completed=share)

    try:
        yield tell
    finally:
        if shown:
            bar.stop()


def _show(what: "RenderableType") -> None:
    from headgate.cli import render

    render.show(what)


def _page(run: "Run", found: Mapping[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    told = f"{run.outcome.replace('_', ' ')} at {_clock(found['at'])} by {run.decided_by}: {run.reason}"
    if run.outcome == "held":
        told = f"held at the end of the history, {_clock(found['at'])}; it waits: {run.reason}"
    facts = f"{run.exposed:,} requests exposed, {run.shadowed:,} mirrored; looked {run.looks:,} times, every {run.interval_s:g} s"
    table = Table("weight", "from", "to", "requests", "decision", "why", box=None)
    for step in found["steps"]:
        weight = (
            "watch"
            if step["phase"] == "watching"
            else "shadow"
            if step["phase"] == "shadowing"
            else f"{step['weight']:g} %"
        )
        cells = (
            weight,
            _clock(step["from"]),
            _clock(step["to"]),
            f"{step['requests']:,}",
            step["decision"] or "",
            step["reason"],
        )
        table.add_row(*(Text(cell) for cell in cells))
    parts: list[RenderableType] = [Text(told, style="bold"), Text(facts), table]
    if found["fault"]:
        fault = found["fault"]
        hours = fault["seconds"] / 3600
        words = "found" if fault["found"] else "not found"
        parts.append(
            Text(
                f"the fault was {words} after {hours:.1f} h and {fault['exposed_requests']:,} exposed requests"
            )
        )
    if run.verdicts:
        parts.append(_verdicts(found["checks"]))
    parts += [Text(f"note: {note}", style="dim") for note in run.notes]
    return Group(*parts)


def _verdicts(checks: Mapping[str, Any]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "literal", "guarded", "evidence", "why", box=None)
    for name, one in checks.items():
        standing, said = one["standing"], one["guarded"] or one["literal"]
        needed = standing and standing["log_e_needed"]
        evidence = f"{standing['log_e']:.1f} of {needed:.1f}" if needed else ""
        literal, guarded = (one[mode]["outcome"] if one[mode] else "" for mode in ("literal", "guarded"))
        table.add_row(name, literal, guarded, evidence, Text(said["reason"]))
    return table


def _summary(told: Mapping[str, Any]) -> "RenderableType":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("of all runs", "share", "standard error", "95 % interval", box=None)
    for name in ("false_rollback_rate", "rollback_rate", "promoted_rate"):
        one = told[name]
        if one is not None:
            interval = f"{one['low']:.3f} to {one['high']:.3f}"
            table.add_row(
                name.replace("_", " "), f"{one['rate']:.3f}", f"{one['standard_error']:.3f}", interval
            )
    spread = Table("", "mean", "standard error", "median", "90 % within", box=None)
    for what in ("to_detection", "to_promotion"):
        for name, one in told[what].items():
            if one is not None:
                numbers = (one["mean"], one["standard_error"], one["median"], one["p90"])
                spread.add_row(
                    f"{what.replace('_', ' ')}, {name.replace('_', ' ')}",
                    *(f"{value:,.1f}" for value in numbers),
                )
    decided = ", ".join(f"{name} {count}" for name, count in told["decided_by"].items())
    parts: Sequence[RenderableType] = [
        Text(
            f"{told['runs']} runs: "
            + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in told["outcomes"].items()),
            style="bold",
        ),
        table,
        spread,
        *([Text(f"taken back by: {decided}")] if decided else []),
        *(Text(f"note: {note}", style="dim") for note in told["notes"]),
    ]
    return Group(*parts)


def _clock(at: str | None) -> str:
    return at[:16].replace("T", " ") if at else ""
