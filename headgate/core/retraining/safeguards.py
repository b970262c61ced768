"""What must hold before a model is trained again, and again before its version is registered. Each says why in a sentence."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

from headgate.core.monitoring import AUTO_RETRAIN_FLAG
from headgate.core.retraining.circumstances import Ask, Circumstances
from headgate.core.retraining.state import Safeguard
from headgate.core.retraining.triggers import days_in_a_row
from headgate.core.spec import format_duration

UNCRITICAL = ("none", "low", "medium", "high")
"""Severities that need no person; any other word does."""
SOUND = ("none", "watch", "retrain", "retrain_with_approval")
"""Recommendations that do not speak of a broken pipeline; any other word stops."""
AUTOMATIC_MODES = ("approve", "automatic")


def _flag(ask: Ask, seen: Circumstances) -> Safeguard:
    if ask.by_hand:
        return Safeguard(
            "flag", "waived", f"asked for by {ask.by}; {AUTO_RETRAIN_FLAG} is about what happens by itself"
        )
    own = f"{AUTO_RETRAIN_FLAG}:{seen.spec.tenant}"
    if seen.flag is not True:
        how = "off" if seen.flag is False else "not set, which is off"
        fix = f"switch it on: headgate flag set {AUTO_RETRAIN_FLAG} on"
        return Safeguard("flag", "stops", f"{AUTO_RETRAIN_FLAG} is {how}: nothing retrains by itself; {fix}")
    if seen.tenant_flag is False:
        return Safeguard("flag", "stops", f"{own} is off: nothing of this tenant retrains by itself")
    return Safeguard("flag", "clear", f"{AUTO_RETRAIN_FLAG} is on")


def _mode(ask: Ask, seen: Circumstances) -> Safeguard:
    mode = seen.spec.mode
    if mode in AUTOMATIC_MODES:
        return Safeguard("mode", "clear", f"mode {mode}")
    if not ask.by_hand:
        return Safeguard(
            "mode", "stops", f"mode {mode} retrains nothing by itself; write mode: approve or automatic"
        )
    if ask.anyway:
        return Safeguard(
            "mode", "waived", f"mode {mode} retrains nothing by itself, {ask.by} wants it anyway"
        )
    return Safeguard(
        "mode", "blocks", f"mode {mode} retrains nothing; ask for it with --anyway, or write mode: approve"
    )


def _trainer(ask: Ask, seen: Circumstances) -> Safeguard:  # noqa: ARG001
    trainer = seen.spec.retrain.trainer
    if trainer is None:
        return Safeguard("trainer", "blocks", "retrain.trainer names no command and no callable that trains")
    what = " ".join(trainer.command) if trainer.command else str(trainer.callable)
    return Safeguard("trainer", "clear", f"trained by {what:.200}")


def _confirmation(ask: Ask, seen: Circumstances) -> Safeguard:
    wanted = seen.spec.retrain.confirm_days
    if ask.by_hand or ask.trigger == "schedule":
        return Safeguard("confirmation", "waived", f"trigger {ask.trigger.value} rests on no drift")
    if ask.severity == "critical":
        return Safeguard("confirmation", "waived", "critical drift is not waited for; a person must allow it")
    days = max((days_in_a_row(seen.reports, cause, wanted) for cause in ask.causes), default=0)
    if not days >= wanted:
        return Safeguard(
            "confirmation", "blocks", f"seen on {days} of {wanted} judged days in a row (retrain.confirmDays)"
        )
    return Safeguard(
        "confirmation", "clear", f"the same cause on {days} judged days in a row, {wanted} asked for"
    )


def _approval(ask: Ask, seen: Circumstances) -> Safeguard:
    if ask.by_hand:
        return Safeguard("approval", "waived", f"asked for by {ask.by}, a person")
    critical = next((one for one in (ask.severity, seen.severity) if one not in UNCRITICAL), None)
    if critical is None and seen.spec.mode == "automatic":
        return Safeguard(
            "approval", "clear", f"severity {ask.severity} in mode automatic needs nobody's leave"
        )
    why = f"drift is {critical}" if critical is not None else f"mode {seen.spec.mode} asks a person each time"
    if ask.consent is not None and ask.consent.given:
        return Safeguard("approval", "clear", f"{why}; allowed by {ask.consent.by} via {ask.consent.via}")
    until = format_duration(seen.spec.retrain.approval_timeout)
    return Safeguard("approval", "asks", f"{why}; without a yes within {until} nothing changes")


def _cooldown(ask: Ask, seen: Circumstances) -> Safeguard:
    if ask.by_hand:
        return Safeguard("cooldown", "waived", f"asked for by {ask.by}")
    if seen.last_ended is None:
        return Safeguard("cooldown", "clear", "no retraining has ended yet")
    until = seen.last_ended + seen.spec.retrain.cooldown
    if not seen.now >= until:
        return Safeguard(
            "cooldown",
            "blocks",
            f"the last one ended {seen.last_ended:%Y-%m-%d %H:%M} UTC; the next from {until:%Y-%m-%d %H:%M} UTC",
        )
    return Safeguard("cooldown", "clear", f"the last one ended {seen.last_ended:%Y-%m-%d %H:%M} UTC")


def _one_at_a_time(ask: Ask, seen: Circumstances) -> Safeguard:  # noqa: ARG001
    if seen.live is not None:
        return Safeguard(
            "one_at_a_time", "blocks", f"{seen.live} is under way; one retraining per model at a time"
        )
    return Safeguard("one_at_a_time", "clear", "no other retraining of the model is under way")


def _pilot(ask: Ask, seen: Circumstances) -> Safeguard:
    spec, pilots, known = seen.spec, seen.spec.retrain.pilot_tenants, seen.pilot
    if not pilots:
        return Safeguard("pilot", "clear", "no pilot tenants are named")
    if spec.tenant in pilots or f"{spec.tenant}/{spec.model}" in pilots:
        return Safeguard("pilot", "clear", f"{spec.tenant} is a pilot")
    if ask.by_hand and ask.anyway:
        return Safeguard("pilot", "waived", f"pilots come first, {ask.by} wants it anyway")
    names, soak = ", ".join(pilots[:5]), timedelta(days=spec.retrain.pilot_days)
    if known.promoted_at is None or not (
        known.taken_back_at is None or known.promoted_at > known.taken_back_at
    ):
        why = "none of them has been promoted yet"
        if known.taken_back_at is not None:
            why = f"one was taken back {known.taken_back_at:%Y-%m-%d}, another must be promoted first"
        return Safeguard("pilot", "blocks", f"pilots come first ({names}); {why}")
    free = known.promoted_at + soak
    if not seen.now >= free:
        return Safeguard(
            "pilot",
            "blocks",
            f"pilots come first ({names}): promoted {known.promoted_at:%Y-%m-%d}, the others follow from {free:%Y-%m-%d}",
        )
    return Safeguard(
        "pilot",
        "clear",
        f"a pilot's ({names}) has served since {known.promoted_at:%Y-%m-%d}, {spec.retrain.pilot_days} days asked for",
    )


def _pipeline(ask: Ask, seen: Circumstances) -> Safeguard:
    newest = seen.newest
    if newest is None:
        if ask.by_hand:
            return Safeguard(
                "pipeline", "waived", "no fresh drift report speaks of a broken pipeline, or against it"
            )
        return Safeguard(
            "pipeline",
            "blocks",
            "no fresh drift report: nobody has looked at the data; run headgate drift-report",
        )
    if newest.recommendation not in SOUND:
        return Safeguard(
            "pipeline",
            "blocks",
            f"the report of {newest.day} says {newest.recommendation}: repair the data first, a model trained on them would learn the fault",
        )
    return Safeguard("pipeline", "clear", f"the report of {newest.day} does not speak of a broken pipeline")


def _quarantine(ask: Ask, seen: Circumstances) -> Safeguard:
    late = _flagged_since(ask, seen)
    if late:
        return Safeguard(
            "quarantine",
            "blocks",
            f"{late[0][0]} to {late[0][1]} were quarantined after the data were cut, so it has learnt from them; train it again",
        )
    last = seen.now.date()
    first = (seen.now - seen.spec.retrain.train_on).date()
    out = {day for window in seen.quarantined for day in _days(window, first, last)}
    total = (last - first).days + 1
    if len(out) >= total:
        return Safeguard(
            "quarantine",
            "blocks",
            f"all {total} days of training data are in quarantine; headgate quarantine list",
        )
    if not out:
        return Safeguard("quarantine", "clear", f"none of the last {total} days is in quarantine")
    return Safeguard(
        "quarantine", "clear", f"{len(out)} of the last {total} days are in quarantine and kept out"
    )


def _flagged_since(ask: Ask, seen: Circumstances) -> list[tuple[date, date]]:
    """Quarantines over days that the candidate has learnt from."""
    if ask.learnt_from is None:
        return []
    first, last = ask.learnt_from
    return [one for one in seen.quarantined if one not in ask.kept_out and one[0] <= last and one[1] >= first]


def _days(window: tuple[date, date], first: date, last: date) -> list[date]:
    begin, end = max(window[0], first), min(window[1], last)
    return [begin + timedelta(days=ahead) for ahead in range(max(0, (end - begin).days + 1))]


def _no_rollout(ask: Ask, seen: Circumstances) -> Safeguard:  # noqa: ARG001
    model = seen.spec.model
    if not seen.registry_read:
        return Safeguard("no_rollout", "waits", "MLflow can't be reached, so nobody knows who serves")
    if seen.champion is None:
        return Safeguard(
            "no_rollout",
            "blocks",
            f"{model} has no champion to compare with; set the alias `champion` in MLflow",
        )
    if seen.rollout is not None:
        return Safeguard(
            "no_rollout",
            "waits",
            f"rollout {seen.rollout} is live; wait for its end, or headgate abort {seen.rollout}",
        )
    if seen.challenger is not None:
        return Safeguard(
            "no_rollout",
            "waits",
            f"version {seen.challenger} holds the alias `challenger`, which is not ours; release it or take the alias away",
        )
    return Safeguard("no_rollout", "clear", "no rollout of the model is live")


def _watch(ask: Ask, seen: Circumstances) -> Safeguard:  # noqa: ARG001
    least = seen.spec.retrain.min_watch
    asked = format_duration(least)
    if not seen.releases:
        return Safeguard(
            "watch",
            "blocks",
            f"no rollout spec of {seen.spec.model} is registered, so nothing would release the version: headgate apply SPEC.yaml",
        )
    shortest = min(one.watch for one in seen.releases)
    if not shortest >= least:
        return Safeguard(
            "watch",
            "blocks",
            f"the rollout spec watches {format_duration(shortest)} after promotion, {asked} asked for (watch.duration, retrain.minWatch)",
        )
    if not all(one.automatic for one in seen.releases):
        return Safeguard(
            "watch",
            "blocks",
            "the rollout spec's environment leaves rollbacks to people, so nothing would take a bad version back by itself",
        )
    return Safeguard(
        "watch",
        "clear",
        f"watched {format_duration(shortest)} after promotion and taken back by itself, {asked} asked for",
    )


def _validation(ask: Ask, seen: Circumstances) -> Safeguard:  # noqa: ARG001
    return Safeguard(
        "validation",
        "later",
        "judged on the newest labelled rows, which it is not trained on, beside the champion",
    )


Rule = Callable[[Ask, Circumstances], Safeguard]
RULES: Mapping[str, Rule] = {
    "flag": _flag,
    "mode": _mode,
    "trainer": _trainer,
    "pipeline": _pipeline,
    "confirmation": _confirmation,
    "cooldown": _cooldown,
    "one_at_a_time": _one_at_a_time,
    "pilot": _pilot,
    "no_rollout": _no_rollout,
    "quarantine": _quarantine,
    "watch": _watch,
    "approval": _approval,
    "validation": _validation,
}
ONCE = frozenset({"confirmation", "cooldown"})
"""Judged when it is proposed; the others again at every step up to the registering."""


def judge_safeguards(ask: Ask, seen: Circumstances, *, under_way: bool = False) -> tuple[Safeguard, ...]:
    """What every safeguard says.

    Args:
        ask: for what. seen: the circumstances.
        under_way: of a retraining that exists: what is judged once is left out.
    """
    return tuple(rule(ask, seen) for name, rule in RULES.items() if not (under_way and name in ONCE))
