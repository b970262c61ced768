"""What is wrong with the experiment itself, and with single slices of its traffic."""

from collections.abc import Iterable, Mapping

from headgate.core.engine.case import Case
from headgate.core.guard.audits import ESTIMATE
from headgate.core.rollout import Decision, EffectKind, Facts, Phase, StepResult
from headgate.core.verdict import Outcome, Verdict

SEGMENT = "segment:"
Excluded = dict[str, tuple[str, ...]]


def tell_audits(case: Case, audits: Mapping[str, Verdict]) -> None:
    """Alert once of each audit that lasts: a broken split is critical, a slice that is only named a warning."""
    spec = case.rollout.spec
    for name, verdict in audits.items():
        if name.startswith(SEGMENT):
            told_when_sent_back = verdict.outcome.triggered and spec.segments.on_segment == "rollback"
            if verdict.outcome in (Outcome.WARN, Outcome.FAIL, Outcome.CRITICAL) and not told_when_sent_back:
                case.alert_while(f"audit:{name}", "warning", f"{name}: {verdict.reason}")
        elif verdict.outcome.triggered and name == ESTIMATE:
            case.alert_while(
                f"audit:{name}", "warning", f"{name}: {verdict.reason}; it holds until labels tell"
            )
        elif verdict.outcome.triggered:
            text = f"{name}: {verdict.reason}; nothing that is measured can be trusted until it is mended"
            case.alert_while(f"audit:{name}", "critical", text)


def unsound(case: Case, facts: Facts) -> StepResult | None:
    """Hold while the split or the log is broken, since such arms prove nothing, or while confidences foretell harm."""
    broken = [
        f"{name}: {verdict.reason}"
        for name, verdict in facts.audits.items()
        if verdict.outcome.triggered and not name.startswith(SEGMENT)
    ]
    if not broken:
        return None
    only_estimated = len(broken) == 1 and broken[0].startswith(ESTIMATE)
    case.stand()
    return case.rule(Decision.HOLD, "; ".join(broken), ESTIMATE if only_estimated else "sample_ratio")


def send_back(case: Case, facts: Facts) -> StepResult | None:
    """Send slices that are proven worse back to the champion, alone; nothing but a person lets them come again."""
    rollout, spec = case.rollout, case.rollout.spec
    movable = rollout.base_phase in (Phase.SHADOWING, Phase.PROGRESSING, Phase.WATCHING)
    known = facts.registry is not None and not facts.effects_pending and case.problem is None
    if spec.segments.on_segment != "rollback" or not movable or not known:
        return None
    worse = {
        name: one for name, one in facts.audits.items() if name.startswith(SEGMENT) and one.outcome.triggered
    }
    excluded = rollout.excluded
    for name in worse:
        column, value = _slice(name, spec.segments.columns)
        excluded = joined(excluded, {column: (value,)})
    if excluded == rollout.excluded:
        return None
    reasons = "; ".join(f"{name.removeprefix(SEGMENT)}: {verdict.reason}" for name, verdict in worse.items())
    reason = f"sent back to the champion: {reasons}"
    # Whoever waived the soak did not know of this.
    case.set(excluded=excluded, soak_waived=None)
    if rollout.weight_percent > 0:
        case.close_approval("a slice was sent back; the evidence starts anew")
        case.stand()
        case.order()
    else:
        case.do(EffectKind.SYNC_REGISTRY)
    case.alert("critical", reason)
    return case.rule(Decision.CONTINUE, reason, "segment")


def left_behind(case: Case) -> StepResult | None:
    """Before the champion's last share goes, a person must say what becomes of the slices that were sent back."""
    rollout = case.rollout
    ends = rollout.base_phase is Phase.WATCHING or rollout.spec.watch.holdback == 0
    last = rollout.base_phase is Phase.WATCHING or rollout.step == len(rollout.spec.ramp) - 1
    if not rollout.excluded or not (ends and last) or rollout.soak_waived is not None:
        return None
    case.stand()
    named = ", ".join(f"{column}={value}" for column, values in rollout.excluded.items() for value in values)
    reason = f"{named} still go to the old champion; `headgate promote` gives them to the new one, `rollback` ends it"
    case.alert_while("left_behind", "warning", reason)
    return case.rule(Decision.HOLD, reason, "segment")


def joined(known: Mapping[str, Iterable[str]], more: Mapping[str, Iterable[str]]) -> Excluded:
    """Both, column by column; nothing is ever taken away. What was known keeps its order."""
    columns = (*known, *(column for column in more if column not in known))
    found = Excluded()
    for column in columns:
        have = tuple(known.get(column, ()))
        found[column] = have + tuple(sorted(set(more.get(column, ())) - set(have)))
    return found


def _slice(name: str, columns: Iterable[str]) -> tuple[str, str]:
    """Column and value of `segment:<column>=<value>`; both may hold a `=`."""
    text = name.removeprefix(SEGMENT)
    column = max(
        (one for one in columns if text.startswith(f"{one}=")), key=len, default=text.partition("=")[0]
    )
    return column, text[len(column) + 1 :]
