"""What a rollback teaches: what drove it, how the next one is caught sooner, which limits to change (S0:565-583).

Everything here is reckoned from what was stored when the rollback was decided; nothing is changed by itself. A suggestion
is a setting, the value it has, the value the numbers speak for, and why.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.adjusting import adjustments
from headgate.core.rollout import Phase, Recovery, Rollout
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check
from headgate.core.wording import about, percent, points

if TYPE_CHECKING:
    from headgate.services import Services

EARLIER = 200
EVENT_GATE = "event_gate"
_MANUAL = ("verb:", "reject", "approval")
_MOSTLY = 0.5
Json = Mapping[str, Any]


def lessons(
    rollout: Rollout,
    verdicts: Sequence[Json],
    breakdown: Sequence[Json],
    *,
    exposed: int,
    earlier: Iterable[Rollout] = (),
) -> dict[str, Any]:
    """The post-rollback analysis, as plain JSON (LN-01, LN-02).

    Args:
        rollout: after the rollback.
        verdicts: what the rollback was decided on, as stored.
        breakdown: rows of `store.breakdown` as JSON: counts by segment, prediction and error of both versions.
        exposed: requests routed to the challenger.
        earlier: the model's other rollouts, for the chance of a rollback next time.
    """
    cause = root_cause(rollout, verdicts, breakdown)
    return {
        "root_cause": cause,
        "preventive_measures": _measures(rollout.spec, cause, exposed),
        "threshold_adjustments": adjustments(rollout.spec, verdicts, cause),
        "learning_integration": predicted_risk([*earlier, rollout]),
    }


def learn(
    services: "Services", rollout: Rollout, verdicts: Sequence[Json], evidence_body: Json
) -> dict[str, Any]:
    """The post-rollback analysis, for the record of the rollback.

    Args:
        services: the connected parts. rollout: after recovery was judged.
        verdicts: what the rollback was decided on, as stored.
        evidence_body: the rest of the record (`evidence.rollback_evidence`), with its breakdown.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    return lessons(
        rollout,
        verdicts,
        evidence_body["breakdown"],
        exposed=evidence_body["performance_impact"]["requests_served_by_challenger"],
        earlier=earlier(services, rollout),
    )


def recall(services: "Services", rollout: Rollout) -> dict[str, Any]:
    """The same from what is stored now, for a rollback whose record has no analysis yet.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    store = services.store
    decided = [record for record in store.history(rollout.id) if record.to_phase == Phase.ROLLING_BACK]
    verdicts = list((decided[-1].body.get("verdicts") or {}).values()) if decided else []
    slices = [asdict(one) for one in store.breakdown(rollout, datetime.now(UTC))]
    exposed = store.served_by(rollout).requests
    return lessons(rollout, verdicts, slices, exposed=exposed, earlier=earlier(services, rollout))


def earlier(services: "Services", rollout: Rollout) -> list[Rollout]:
    """The model's rollouts before this one, newest first."""
    known = services.store.rollouts(model=rollout.model, tenant=rollout.tenant, limit=EARLIER)
    return [one for one in known if one.created_at < rollout.created_at]


def root_cause(rollout: Rollout, verdicts: Sequence[Json], breakdown: Sequence[Json]) -> dict[str, Any]:
    """Which check, step, slice, threshold and error category drove the rollback, as far as the numbers tell."""
    recovery = rollout.recovery
    trigger = recovery.triggered_by if recovery else "unknown"
    driver = _driver(trigger, verdicts)
    check = Check.ERROR_RATE.value if trigger == EVENT_GATE else driver.get("check") if driver else None
    standing = standing_json(driver)
    segment, category = _segment(rollout, breakdown), _category(rollout, breakdown)
    weight = recovery.from_weight_percent if recovery else 0.0
    found = {
        "triggered_by": trigger,
        "by_person": trigger.startswith(_MANUAL),
        "check": check,
        "reason": recovery.reason if recovery else "",
        "stage": _stage_name(recovery),
        "weight_percent": weight,
        "confirmed": _confirmed(standing),
        "evidence": _exp(standing.get("log_e")),
        "difference": standing.get("difference"),
        "gate": _strongest(standing.get("parts") or {}),
        "segment": segment,
        "error_category": category,
    }
    return found | {"sentence": _sentence(found)}


def predicted_risk(rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """The chance that the model's next rollout is rolled back, from how the ended ones ended.

    The mean of a Beta(1, 1) prior after what was seen (Laplace's rule of succession): never 0, never 1.
    """
    ended = [one for one in rollouts if one.outcome in ("promoted", "rolled_back", "rejected_in_shadow")]
    back = [one for one in ended if one.outcome != "promoted"]
    triggers: dict[str, int] = {}
    for one in back:
        name = one.recovery.triggered_by if one.recovery else "unknown"
        triggers[name] = triggers.get(name, 0) + 1
    return {
        "rollouts": len(ended),
        "rolled_back": len(back),
        "chance_next": (len(back) + 1) / (len(ended) + 2),
        "by_trigger": dict(sorted(triggers.items(), key=lambda item: (-item[1], item[0]))),
    }


def _driver(trigger: str, verdicts: Sequence[Json]) -> Json | None:
    """The verdict that drove it: the one the trigger names, else the one nearest to (or farthest beyond) its limit."""
    named = trigger.removeprefix("watch_").removeprefix("shadow_")
    for one in verdicts:
        if one.get("check") == named:
            return one
    told = [one for one in verdicts if one.get("outcome") in ("warn", "fail", "critical")]
    ranks = {"critical": 2, "fail": 1, "warn": 0}

    def key(one: Json) -> tuple[int, float, float]:
        standing = standing_json(one)
        log_e, needed = _float(standing.get("log_e")), _float(standing.get("log_e_needed"))
        share = log_e / needed if needed > 0 and math.isfinite(needed) else 0.0
        return ranks[str(one["outcome"])], share, _float(one.get("severity"))

    return max(told, key=key, default=None)


def standing_json(verdict: Json | None) -> Json:
    """The sequential evidence stored with a verdict, whichever mode decided; empty without any."""
    if verdict is None:
        return {}
    return verdict.get("standing") or (verdict.get("guarded") or {}).get("standing") or {}


def _sentence(cause: Json) -> str:
    if cause["by_person"]:
        return f"a person decided: {cause['reason']}"
    if cause["check"] is None:
        return str(cause["reason"]) or "nothing that was stored tells why"
    told = f"{cause['check']} at {cause['stage']}"
    if cause["difference"] is not None:
        told += f", {points(cause['difference'])} more bad answers than the champion's"
    if cause["gate"] and cause["gate"] != cause["check"]:
        told += f", most of it in {cause['gate']}"
    if cause["error_category"]:
        told += (
            f", {percent(cause['error_category']['share'])} of the failures {cause['error_category']['name']}"
        )
    if cause["segment"]:
        told += f", {percent(cause['segment']['share'])} of the harm in {cause['segment']['name']}"
    if cause["confirmed"] is False:
        told += "; the evidence against the champion did not confirm it"
    return told


def _measures(spec: RolloutSpec, cause: Json, exposed: int) -> list[str]:
    """What would have shown it sooner, or to fewer."""
    found = []
    met = f"{exposed:,} requests met it" if exposed else "no request met it"
    if spec.shadow is None and not cause["by_person"]:
        found.append(f"add a shadow stage: it shows such a difference on mirrored requests ({met})")
    first = spec.ramp[0].set_weight
    if exposed and cause["weight_percent"] == first and first > 1:
        found.append(
            f"begin at 1 % instead of {first:g} %: about {about(exposed / first)} requests instead of {exposed:,}"
        )
    if cause["segment"]:
        column, _, value = cause["segment"]["name"].partition("=")
        found.append(f"test the next version on {column}={value} before it starts")
        if column not in spec.segments.columns:
            found.append(f"declare segments.columns: [{column}], so that the slice is judged by itself")
        elif spec.segments.on_segment == "warn":
            found.append("set segments.onSegment: rollback, so that the slice alone goes back")
    if cause["error_category"]:
        found.append(
            f"reproduce the {cause['error_category']['name']} failures offline; samples stand in the evidence"
        )
    if cause["check"] == Check.LATENCY:
        found.append("measure the next version under the champion's load before it starts")
    if cause["check"] in (Check.ACCURACY, Check.CONFIDENCE_DRIFT) and not cause["segment"]:
        found.append("compare the next version on the sample predictions in the evidence before it starts")
    if spec.harm_budget is None and exposed:
        found.append("set harmBudget.extraBad, so that the weight is cut before the harm is done")
    return found


def _segment(rollout: Rollout, breakdown: Sequence[Json]) -> dict[str, Any] | None:
    """The slice that holds most of the harm, when it is at least half of its column's."""
    best: dict[str, Any] | None = None
    for column in {str(row["dimension"]) for row in breakdown} - {"prediction", "error"}:
        extra = _extra_by_value(rollout, [row for row in breakdown if row["dimension"] == column])
        total = math.fsum(value for value in extra.values() if value > 0)
        for value, harm in extra.items():
            share = harm / total if total > 0 else 0.0
            if len(extra) > 1 and share >= _MOSTLY and (best is None or share > best["share"]):
                best = {"name": f"{column}={value}", "share": share, "extra_bad": harm}
    return best


def _extra_by_value(rollout: Rollout, rows: Sequence[Json]) -> dict[str, float]:
    """Value -> the challenger's bad answers beyond the champion's rate in the same slice."""
    counts: dict[str, dict[str, list[int]]] = {}
    for row in rows:
        mine = counts.setdefault(str(row["value"]), {}).setdefault(str(row["version"]), [0, 0])
        mine[0] += row["errors"] + row["outcomes"] - row["correct"]
        mine[1] += row["requests"]
    found = {}
    for value, versions in counts.items():
        bad, n = versions.get(rollout.challenger, [0, 0])
        beside, n_beside = versions.get(rollout.champion, [0, 0])
        if n and n_beside:
            found[value] = bad - n * beside / n_beside
    return found


def _category(rollout: Rollout, breakdown: Sequence[Json]) -> dict[str, Any] | None:
    failed = [
        row for row in breakdown if row["dimension"] == "error" and row["version"] == rollout.challenger
    ]
    total = sum(row["requests"] for row in failed)
    if not total:
        return None
    top = max(failed, key=lambda row: int(row["requests"]))
    return {"name": top["value"], "share": top["requests"] / total, "failures": total}


def _stage_name(recovery: Recovery | None) -> str:
    if recovery is None:
        return "an unknown stage"
    if recovery.from_phase in (Phase.WATCHING, Phase.PROMOTING):
        return "the watch after promotion"
    if recovery.from_phase is Phase.PROGRESSING:
        return f"{recovery.from_weight_percent:g} %"
    return "shadow"


def _confirmed(standing: Json) -> bool | None:
    """Whether its evidence had confirmed the harm; None without any."""
    if standing.get("log_e") is None:
        return None
    return _float(standing["log_e"]) >= _float(standing.get("log_e_needed"), math.inf)


def _strongest(parts: Mapping[str, Any]) -> str | None:
    telling = {name: _float(value) for name, value in parts.items()}
    best = max(telling, key=lambda name: telling[name], default=None)
    return best if best is not None and telling[best] > 0 else None


def _exp(log: Any) -> float | None:
    return None if log is None else math.exp(min(_float(log), 690.0))


def _float(value: Any, otherwise: float = 0.0) -> float:
    """A stored number; infinities are stored by name."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return otherwise
    return otherwise if math.isnan(found) else found
