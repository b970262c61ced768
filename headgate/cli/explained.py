"""`headgate explain` as a page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from headgate.cli.render import STYLES, evidence_of, meter, version_line
from headgate.core.wording import evidence, percent, points
from headgate.explain import summary_sentence

Json = Mapping[str, Any]
_AXIS = 29


def page(told: Json) -> RenderableType:
    """The rollout, every check, what drives it, what can't be shown."""
    parts: list[Text | None] = [_head(told), Text("")]
    parts += [_check(row) for row in told["checks"]]
    parts += [Text(""), _versions(told), _slices(told), _samples(told), _learning(told)]
    parts += [Text(f"can't be shown: {why}", style="dim") for why in told["missing"]]
    return Group(*(part for part in parts if part is not None))


def _head(told: Json) -> Text:
    step = f", step {told['step'] + 1} of {len(told['steps'])}" if told["step"] >= 0 else ""
    pause = f" ({told['pause_reason']})" if told["pause_reason"] else ""
    text = Text()
    text.append(told["id"], "bold")
    text.append(f"  {told['model']}: version {told['challenger']} against {told['champion']}; ")
    text.append(f"{told['phase']}{pause}", STYLES.get(told["phase"], ""))
    text.append(f" at {told['weight_percent']:g} %{step}, decides {told['decision']}")
    if told["ruling"]:
        text.append(f"\n{told['ruling']['decision']}: {told['ruling']['reason']}")
    whole = told["together"]
    if whole:
        text.append(
            f"\nall checks together  {meter(whole['share'])} evidence {evidence_of(whole)}, error budget {whole['alpha']:g}, "
            f"{percent(whole['event_share'])} of it the event gate's"
        )
    text.append(_harm(told["harm"]))
    waits = [row["check"] for row in told["checks"] if row["standing"] and _lacks(row["standing"])]
    if told["promotion"] and waits:
        text.append(f"\npromotion waits for {', '.join(waits)}", "yellow")
    risk = told["risk_before"]
    if risk["rollouts"]:
        text.append(
            f"\nearlier rollouts of {told['model']}: {risk['rolled_back']} of {risk['rollouts']} taken back; "
            f"chance before this one {percent(risk['chance_next'])}",
            "dim",
        )
    return text


def _lacks(standing: Json) -> bool:
    """True when promotion's evidence is asked for and not there."""
    return standing["for"] is not None and not standing["for"]["enough"]


def _harm(harm: Json) -> str:
    if harm["extra_bad"] is None:
        return ""
    allowed = f" of {harm['allowed']:g} allowed" if harm["allowed"] is not None else ""
    known = "unknown" if harm["beyond_chance"] is None else f"{harm['beyond_chance']:.0f}"
    return f"\nharm so far  {harm['extra_bad']:.0f} bad answers more than the champion's, {known}{allowed} beyond chance"


def _check(row: Json) -> Text:
    """A check in three to five lines."""
    text = Text()
    text.append(f"{row['check']:<18}", "bold")
    text.append(row["outcome"], STYLES.get(row["outcome"], ""))
    for other in ("literal", "guarded"):
        if row[other] and row[other]["outcome"] != row["outcome"]:
            text.append(f"  {other} says ")
            text.append(row[other]["outcome"], STYLES.get(row[other]["outcome"], ""))
    text.append(f"  {summary_sentence(row)}")
    standing = row["standing"]
    if standing:
        for line in (_interval(standing), _evidence(standing), _labels(standing)):
            text.append(f"\n  {line}" if line else "")
    text.append(f"\n  {row['reason']}")
    if row["literal"] and row["literal"]["reason"] not in row["reason"]:
        text.append(f"\n  literal: {row['literal']['reason']}", "dim")
    if row["would_change"]:
        text.append(f"\n  {row['would_change']}", "italic")
    return text


def _interval(standing: Json) -> str:
    difference = standing["difference"]
    if difference is None:
        return ""
    low, high, margin = standing["low"], standing["high"], standing["margin"]
    ends = f"[{_signed(low, '-')}, {_signed(high, '+')}]"
    bar = interval_bar(difference, low, high, margin)
    limit = f", margin {points(margin)}" if margin is not None else ""
    wide = ", too wide to conclude" if standing["uncertain"] else ""
    return f"{bar}  difference {_signed(difference, '')} points {ends}{limit}{wide}"


def _evidence(standing: Json) -> str:
    against = standing["against"]
    told = f"against {meter(against['share'])} {evidence_of(standing)}"
    if against["one_in"].startswith("1"):
        told += f" (by chance {against['one_in']} at most)"
    shown = standing["for"]
    if shown is None:
        return told
    return f"{told}   for {meter(shown['share'])} {shown['claim']}, shown to {100 * min(shown['share'], 1):.0f} %"


def _labels(standing: Json) -> str:
    told = []
    if standing["maturity"] is not None:
        told.append(f"labels {percent(standing['maturity'])} mature")
    if standing["deff"] > 1.005:
        told.append(f"users who come again count as {percent(1 / standing['deff'])} of their samples")
    parts = sorted(standing["parts"].items(), key=lambda item: -(item[1] or 0.0))
    if len(parts) > 1 and (parts[0][1] or 0.0) > math.log(3):
        told.append(
            "most in " + ", ".join(f"{name} {evidence(log)}" for name, log in parts[:2] if log and log > 0.7)
        )
    return "; ".join(told)


def interval_bar(
    difference: float, low: float | None, high: float | None, margin: float | None, cells: int = _AXIS
) -> str:
    """A confidence sequence as text: `|` is 0, `╎` the margin, `●` the difference; `◀` and `▶` reach beyond.

    >>> interval_bar(0.01, -0.01, 0.03, 0.02, 13)
    '·├──|─●─╎──┤·'
    >>> interval_bar(0.01, None, None, 0.02, 13)
    '◀─|───●───╎─▶'
    """
    known = [value for value in (low, high, difference, margin, 0.0) if value is not None]
    first, last = min(known), max(known)
    room = (last - first) * (0.3 if low is None or high is None else 0.12) or 0.01
    first, last = first - room, last + room

    def place(value: float) -> int:
        return round((value - first) / (last - first) * (cells - 1))

    left = place(low) if low is not None else 0
    right = place(high) if high is not None else cells - 1
    bar = ["─" if left <= cell <= right else "·" for cell in range(cells)]
    bar[left], bar[right] = "├" if low is not None else "◀", "┤" if high is not None else "▶"
    if margin is not None:
        bar[place(margin)] = "╎"
    bar[place(0.0)] = "|"
    bar[place(difference)] = "●"
    return "".join(bar)


def _signed(value: float | None, endless: str) -> str:
    return f"{endless}∞" if value is None else f"{100 * value:+.2g}"


def _versions(told: Json) -> Text | None:
    lines = [f"  {role} {version_line(one)}" for role, one in told["versions"].items() if one["requests"]]
    return _block("versions, last 24 h", lines)


def _slices(told: Json) -> Text | None:
    lines = [
        f"  {one['name']}: {one['outcome']}: {one['reason']}"
        for one in told["audits"]
        if one["outcome"] != "pass"
    ]
    for one in told["segments"]:
        sides = " against ".join(_side(one[arm]) for arm in ("challenger", "champion"))
        lines.append(
            f"  {one['segment']}: {one['extra_bad']:.0f} more bad answers than the champion's rate gives; {sides}"
        )
    for column, values in told["excluded"].items():
        lines.append(f"  sent back to the champion: {column}={', '.join(values)}")
    if told["errors"]:
        lines.append(
            "  failures: " + ", ".join(f"{name} {count:,}" for name, count in told["errors"].items())
        )
    return _block("what drives it", lines)


def _side(one: Json) -> str:
    rate = (
        f"{percent(1 - one['accuracy'])} wrong of {one['outcomes']:,}" if one["accuracy"] is not None else ""
    )
    failed = f"{percent(one['error_rate'])} failed of {one['requests']:,}" if one["error_rate"] else ""
    return ", ".join(part for part in (rate, failed) if part) or f"{one['requests']:,} requests"


def _samples(told: Json) -> Text | None:
    lines = []
    for one in told["samples"]:
        said = one["error"] or one["prediction"]
        beside = f", champion {one['champion_prediction']}" if one["champion_prediction"] is not None else ""
        label = f", label {one['label']}" if one["label"] is not None else ""
        sure = f" ({one['confidence']:.2f})" if one["confidence"] is not None else ""
        lines.append(
            f"  {one['time'][:19].replace('T', ' ')}  {one['request_id']}  {said}{sure}{beside}{label}"
        )
    return _block("newest answers to look at", lines)


def _learning(told: Json) -> Text | None:
    learnt = told["learning"]
    if not learnt:
        return None
    lines = [f"  cause: {learnt['root_cause']['sentence']}"]
    lines += [f"  next time: {measure}" for measure in learnt["preventive_measures"]]
    lines += [
        f"  limit: {one['setting']} {one['now']} → {one['suggested']}: {one['why']}"
        for one in learnt["threshold_adjustments"]
    ]
    return _block("what the rollback teaches", lines)


def _block(title: str, lines: Sequence[str]) -> Text | None:
    if not lines:
        return None
    text = Text(title, "bold")
    text.append("".join(f"\n{line}" for line in lines), "not bold")
    return text
