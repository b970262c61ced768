"""`headgate review` as a page."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from headgate.core.wording import duration, percent

Json = Mapping[str, Any]


def page(told: Json) -> RenderableType:
    """The period, the rollbacks, the false alarms, the times, the limits to change."""
    lines = [
        f"{_when(told['since'])} to {_when(told['until'])} UTC: {told['rollouts']} rollouts, {told['live']} live",
        _counts("ended", told["ended"]),
        _counts("rollbacks by cause", told["rollbacks_by_cause"]),
        *(_rollback(one) for one in told["rollbacks"]),
        _named("false alarms (taken back, not confirmed)", told["false_positives"]),
        *_literal(told["literal_only"]),
        *_holds(told["holds"]),
        _times("traffic cut", told["time_to_cut_s"]),
        _times("recovered", told["time_to_recover_s"]),
        *(
            f"limit: {one['model']}: {one['setting']} {one['now']} → {one['suggested']}: {one['why']}"
            for one in told["threshold_suggestions"]
        ),
        *(
            f"risk: {model}: {one['rolled_back']} of {one['rollouts']} taken back, "
            f"chance for the next {percent(one['chance_next'])}"
            for model, one in told["risk"].items()
            if one["rollouts"]
        ),
    ]
    return Group(*(Text(line) for line in lines if line))


def _counts(what: str, counts: Json) -> str:
    return f"{what}: " + (", ".join(f"{name} {count}" for name, count in counts.items()) or "none")


def _named(what: str, names: list[str]) -> str:
    return f"{what}: " + (", ".join(names) or "none")


def _rollback(one: Json) -> str:
    met = f", {one['requests']:,} requests met it" if one["requests"] is not None else ""
    cut = f", cut after {duration(one['time_to_cut_s'])}" if one["time_to_cut_s"] is not None else ""
    return f"  {one['rollout']} {_when(one['at'] or '')}: {one['cause']}{met}{cut}"


def _literal(counts: Json) -> list[str]:
    return [
        f"  {check}: the documents' rule fired in {one['fired']} rollouts, in {one['not_confirmed']} nothing confirmed it"
        for check, one in counts.items()
    ]


def _holds(holds: Json) -> list[str]:
    return [
        f"  held: {reason}: {one['times']:.0f} times, {duration(one['seconds'])} in all"
        for reason, one in holds.items()
    ]


def _times(what: str, spread: Json | None) -> str:
    if spread is None:
        return ""
    return f"{what} within: median {duration(spread['median'])}, longest {duration(spread['largest'])}"


def _when(at: str) -> str:
    return at[:16].replace("T", " ")
