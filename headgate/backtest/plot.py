"""Pictures of replays. Matplotlib is imported only here, when a picture is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headgate.backtest.many import BACK
from headgate.backtest.replay import Run
from headgate.errors import BadRequestError

_COLOURS = {
    "promoted": "#2a7f3f",
    "rolled_back": "#b3261e",
    "rejected_in_shadow": "#d98324",
    "held": "#7a7a7a",
}


def plot(runs: Sequence[Run], path: Path) -> None:
    """Write a picture: of one run, its weights and evidence over time; of many, outcomes, exposure and times.

    Raises:
        BadRequestError: the file can't be written, or its ending names no format.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 1 if len(runs) == 1 else 3, figsize=(11, 4.2), squeeze=False)
    if len(runs) == 1:
        _one(axes[0, 0], runs[0])
    else:
        _many(axes[0], runs)
    figure.tight_layout()
    try:
        figure.savefig(path, dpi=140)
    except (OSError, ValueError) as err:
        raise BadRequestError(
            "--plot", str(path), f"be a picture's path that can be written ({err})"
        ) from err
    finally:
        plt.close(figure)


def _one(axis: Any, run: Run) -> None:
    """Weight as a staircase, what ended each stage, and the evidence of each check as a share of what is needed."""
    times, weights = [], []
    for stage in run.stages:
        times += [stage.since, stage.until or run.at]
        weights += [stage.weight, stage.weight]
    axis.fill_between(times, weights, step=None, color="#5b7db1", alpha=0.3, label="challenger's weight, %")
    axis.set_ylim(0, 105)
    axis.set_ylabel("weight, %")
    axis.set_title(
        f"{run.outcome.replace('_', ' ')} by {run.decided_by}, {run.exposed:,} requests exposed", fontsize=10
    )
    axis.axvline(run.at, color=_COLOURS[run.outcome], linewidth=1.5)
    evidence = axis.twinx()
    evidence.set_ylim(0, 1.05)
    evidence.set_ylabel("evidence of harm / needed")
    when = [at for at, _ in run.trace]
    for name in sorted({name for _, shares in run.trace for name in shares}):
        evidence.plot(when, [shares.get(name, 0.0) for _, shares in run.trace], linewidth=1, label=name)
    evidence.legend(fontsize=7, loc="upper left", frameon=False)
    axis.figure.autofmt_xdate()


def _many(axes: Sequence[Any], runs: Sequence[Run]) -> None:
    names = [name for name in _COLOURS if any(run.outcome == name for run in runs)]
    counts = [sum(run.outcome == name for run in runs) for name in names]
    axes[0].bar([name.replace("_", "\n") for name in names], counts, color=[_COLOURS[name] for name in names])
    axes[0].set_title(f"outcome of {len(runs)} runs", fontsize=10)
    back = [run for run in runs if run.outcome in BACK]
    exposed = [run.fault_exposed if run.fault_at else run.exposed for run in back]
    _steps(axes[1], exposed, "requests exposed before it was taken back", _COLOURS["rolled_back"])
    hours = [
        ((run.promoted_at or run.at) - run.began).total_seconds() / 3600
        for run in runs
        if run.outcome == "promoted"
    ]
    _steps(axes[2], hours, "hours to promotion", _COLOURS["promoted"])


def _steps(axis: Any, values: Sequence[float], title: str, colour: str) -> None:
    """Share of the runs at or below each value."""
    ordered = sorted(values)
    axis.set_title(title if ordered else f"{title}: none", fontsize=10)
    axis.set_ylim(0, 1.02)
    if ordered:
        axis.step(
            ordered, [(place + 1) / len(ordered) for place in range(len(ordered))], where="post", color=colour
        )
