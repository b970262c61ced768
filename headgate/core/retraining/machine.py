"""How a retraining moves. Each function takes it and what is seen, and gives it back as it is afterwards.

Up to the registering, every step asks the safeguards anew; what stands in the way ends it or lets it wait, and the champion
serves on in every case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from headgate.core.retraining.circumstances import Ask, Circumstances, ask_of
from headgate.core.retraining.safeguards import judge_safeguards
from headgate.core.retraining.state import (
    BEFORE_REGISTERING,
    Consent,
    Retraining,
    RetrainingPhase,
    Safeguard,
)
from headgate.errors import ConflictError, IllegalVerbError

P = RetrainingPhase
MAX_WAIT = timedelta(hours=24)
"""How long a step waits for a rollout that somebody else began, or for MLflow."""
MAX_ATTEMPTS = 3
SERVES = "traffic did not change, the champion serves"

_REFUSALS = frozenset({P.REFUSED, P.CANCELLED, P.FAILED})
LEGAL: Mapping[RetrainingPhase, frozenset[RetrainingPhase]] = {
    P.PROPOSED: frozenset({P.AWAITING_APPROVAL, P.APPROVED}) | _REFUSALS,
    P.AWAITING_APPROVAL: frozenset({P.APPROVED, P.DECLINED, P.EXPIRED}) | _REFUSALS,
    P.APPROVED: frozenset({P.AWAITING_APPROVAL, P.TRAINING}) | _REFUSALS,
    P.TRAINING: frozenset({P.AWAITING_APPROVAL, P.VALIDATING}) | _REFUSALS,
    P.VALIDATING: frozenset({P.AWAITING_APPROVAL, P.TRAINING, P.REGISTERED}) | _REFUSALS,
    P.REGISTERED: frozenset({P.ROLLING_OUT, P.WATCHING, P.PROMOTED, P.TAKEN_BACK}) | _REFUSALS,
    P.ROLLING_OUT: frozenset({P.WATCHING, P.PROMOTED, P.TAKEN_BACK}) | _REFUSALS,
    P.WATCHING: frozenset({P.PROMOTED, P.TAKEN_BACK, P.ROLLING_OUT}) | _REFUSALS,
}


def move(one: Retraining, to: RetrainingPhase, now: datetime, said: str, **changes: Any) -> Retraining:
    """Go to another phase.

    Raises:
        IllegalVerbError: there is no way from here to there.
    """
    if to not in LEGAL.get(one.phase, frozenset()):
        raise IllegalVerbError(f"move to {to.value}", one.id, one.phase.value, legal_verbs(one))
    ended = None if to.live else now
    return replace(one, phase=to, phase_since=now, said=said, ended_at=ended, **changes)


def legal_verbs(one: Retraining) -> tuple[str, ...]:
    """What a person may ask of it now."""
    awaiting = ("approve", "decline") if one.phase is P.AWAITING_APPROVAL else ()
    return (*awaiting, "cancel") if one.phase in BEFORE_REGISTERING else awaiting


def propose(
    retraining_id: str, ask: Ask, reason: str, seen: Circumstances
) -> Retraining | tuple[Safeguard, ...]:
    """A new retraining, or the safeguards of which at least one stands in the way."""
    safeguards = judge_safeguards(ask, seen)
    if any(one.in_the_way for one in safeguards):
        return safeguards
    return Retraining(
        id=retraining_id,
        tenant=seen.spec.tenant,
        model=seen.spec.model,
        phase=P.PROPOSED,
        trigger=ask.trigger,
        reason=reason,
        requested_by=ask.by,
        created_at=seen.now,
        phase_since=seen.now,
        severity=ask.severity,
        causes=ask.causes,
        report_day=seen.newest.day if seen.newest is not None else None,
        anyway=ask.anyway,
        safeguards=safeguards,
        champion=seen.champion,
        said=f"proposed: {reason}",
    )


def stand(one: Retraining, seen: Circumstances) -> Retraining | None:
    """What the safeguards make of one that is not registered yet; None = it may go on."""
    safeguards = judge_safeguards(ask_of(one), seen, under_way=True)
    judged = replace(one, safeguards=safeguards)
    ways = {name: [each for each in safeguards if each.stand == name] for name in ("stops", "waits", "asks")}
    in_the_way = [each for each in safeguards if each.in_the_way]
    if ways["stops"]:
        return move(judged, P.CANCELLED, seen.now, f"{_told(ways['stops'])}; {SERVES}")
    if any(each.stand != "waits" for each in in_the_way):
        firm = [each for each in in_the_way if each.stand != "waits"]
        return move(judged, P.REFUSED, seen.now, f"{_told(firm)}; {SERVES}")
    if ways["waits"]:
        if seen.now - one.phase_since > MAX_WAIT:
            said = f"waited in vain for {MAX_WAIT}: {_told(ways['waits'])}; {SERVES}; ask again: headgate retrain {one.model}"
            return move(judged, P.REFUSED, seen.now, said)
        return _stay(judged, f"waits: {_told(ways['waits'])}")
    if ways["asks"]:
        return _ask(judged, seen, ways["asks"])
    return None


def allow(one: Retraining, seen: Circumstances) -> Retraining:
    """From `proposed` or `awaiting_approval`: allowed, asked for, run out, or ended."""
    consent = one.consent
    asked = one.phase is P.AWAITING_APPROVAL and consent is not None and consent.decision is None
    if asked and consent is not None and seen.now >= consent.expires_at:
        said = f"nobody allowed it by {consent.expires_at:%Y-%m-%d %H:%M} UTC; {SERVES}; ask again: headgate retrain {one.model}"
        return move(one, P.EXPIRED, seen.now, said)
    stopped = stand(one, seen)
    if stopped is not None:
        return stopped
    safeguards = judge_safeguards(ask_of(one), seen, under_way=True)
    by = next(each.sentence for each in safeguards if each.name == "approval")
    return move(replace(one, safeguards=safeguards), P.APPROVED, seen.now, f"allowed: {by}")


def answer(
    one: Retraining,
    decision: Literal["approve", "decline"],
    now: datetime,
    *,
    by: str,
    via: str,
    reason: str = "",
) -> Retraining:
    """Write a person's answer down; what stands in the way is looked at again before it trains.

    Raises:
        IllegalVerbError: nobody is asked now.
        ConflictError: the request has run out.
    """
    consent = one.consent
    if one.phase is not P.AWAITING_APPROVAL or consent is None:
        raise IllegalVerbError(decision, one.id, one.phase.value, legal_verbs(one))
    if not by.strip():
        raise IllegalVerbError(f"{decision} without a name", one.id, one.phase.value, legal_verbs(one))
    if now >= consent.expires_at:
        found = f"one at {now.isoformat()}"
        raise ConflictError(
            f"approval of {one.id}", f"an answer before {consent.expires_at.isoformat()}", found
        )
    given = replace(consent, decision=decision, by=by, at=now, via=via, reason=reason)
    because = f": {reason}" if reason else ""
    if decision == "decline":
        said = f"declined by {by} via {via}{because}; {SERVES}"
        return move(one, P.DECLINED, now, said, consent=given)
    return move(one, P.APPROVED, now, f"allowed by {by} via {via}{because}", consent=given)


def begin_training(one: Retraining, seen: Circumstances) -> Retraining:
    """To `training`, also again after a process that died in it; its time counts from the first begin."""
    stopped = stand(one, seen)
    if stopped is not None:
        return stopped
    if one.phase is P.TRAINING:
        trainer = seen.spec.retrain.trainer
        if trainer is None or seen.now - one.phase_since > trainer.timeout:
            said = f"the process that trained died, and trainer.timeout is over; {SERVES}; look at its log, then headgate retrain {one.model}"
            return move(one, P.FAILED, seen.now, said)
    if one.attempts >= MAX_ATTEMPTS:
        said = f"training was begun {one.attempts} times and never came to its end; {SERVES}; look at its log, then headgate retrain {one.model}"
        return move(one, P.FAILED, seen.now, said)
    attempts, safeguards = one.attempts + 1, judge_safeguards(ask_of(one), seen, under_way=True)
    begun = replace(one, attempts=attempts, validated=False, validation=(), safeguards=safeguards)
    if one.phase is P.TRAINING:
        return replace(begun, said=f"training, attempt {attempts}: the process of the one before died")
    return move(begun, P.TRAINING, seen.now, f"training, attempt {attempts}", training={})


def trained(one: Retraining, facts: Mapping[str, Any], seen: Circumstances) -> Retraining:
    """A candidate lies there; `facts` has `rows`, the labelled rows outside quarantine that it learnt from."""
    rows, least = facts.get("rows"), seen.spec.retrain.min_rows
    if not (isinstance(rows, int) and rows >= least):
        said = f"{rows} labelled rows outside quarantine, {least} asked for (retrain.minRows); {SERVES}; wait for labels, or lift a quarantine"
        return move(one, P.REFUSED, seen.now, said, training=dict(facts))
    stopped = stand(one, seen)
    if stopped is not None and stopped.phase is not one.phase:
        return replace(stopped, training=dict(facts))
    said = f"trained on {rows} rows"
    return move(one, P.VALIDATING, seen.now, said, training=dict(facts))


def validated(
    one: Retraining, findings: Sequence[Mapping[str, Any]], champion: str | None, seen: Circumstances
) -> Retraining:
    """What the validation found, beside which champion; all findings must have passed, and there must be some.

    Raises:
        IllegalVerbError: it is not in `validating`.
    """
    if one.phase is not P.VALIDATING:
        raise IllegalVerbError("validate", one.id, one.phase.value, legal_verbs(one))
    failed = [each for each in findings if each.get("passed") is not True]
    found = tuple(dict(each) for each in findings)
    if failed or not findings:
        why = (
            "; ".join(str(each.get("sentence", each.get("name"))) for each in failed[:3])
            or "it found nothing at all"
        )
        said = f"refused by its validation: {why}; nothing was registered, {SERVES}"
        return move(one, P.REFUSED, seen.now, said, validation=found, validated=False)
    said = f"{len(found)} points of validation passed beside champion version {champion}"
    return replace(one, validation=found, validated=True, champion=champion, said=said)


def may_register(one: Retraining, seen: Circumstances) -> Retraining:
    """The last look before a version is made: `validated` stays True only while everything still holds."""
    stopped = stand(one, seen)
    if stopped is not None:
        return stopped if stopped.phase is not one.phase else replace(stopped, validated=False)
    if not one.validated or one.champion != seen.champion:
        said = f"validated beside version {one.champion}, now {seen.champion} serves; validated again"
        return replace(one, validated=False, said=said)
    safeguards = judge_safeguards(ask_of(one), seen, under_way=True)
    done = [each for each in safeguards if each.name != "validation"]
    passed = Safeguard(
        "validation", "clear", f"{len(one.validation)} points passed beside version {one.champion}"
    )
    return replace(one, safeguards=(*done, passed))


def registered(one: Retraining, version: str, now: datetime) -> Retraining:
    """The version is there and has the alias.

    Raises:
        IllegalVerbError: `may_register` did not allow it.
    """
    proven = any(each.name == "validation" and each.stand == "clear" for each in one.safeguards)
    if not (one.validated and proven) or any(
        each.in_the_way or each.stand == "asks" for each in one.safeguards
    ):
        raise IllegalVerbError("register", one.id, one.phase.value, legal_verbs(one))
    said = (
        f"registered as version {version} with the alias `challenger`; its rollout begins with the next sweep"
    )
    return move(one, P.REGISTERED, now, said, version=version)


def overdue(one: Retraining, now: datetime) -> Retraining | None:
    """One that is validated and registered again and again without an end has failed; None while there is time."""
    if one.phase is not P.VALIDATING or now - one.phase_since <= 2 * MAX_WAIT:
        return None
    return failed(one, f"not validated and registered within {2 * MAX_WAIT}, last: {one.said}", now)


def failed(one: Retraining, why: str, now: datetime, traffic: str = SERVES) -> Retraining:
    """Something did not work; said with what became of traffic and what to do."""
    return move(one, P.FAILED, now, f"{why}; {traffic}; then headgate retrain {one.model}")


def cancel(one: Retraining, by: str, reason: str, now: datetime) -> Retraining:
    """A person ends it.

    Raises:
        IllegalVerbError: its version is registered (then its rollout is what can be ended), or it has ended.
    """
    if one.phase not in BEFORE_REGISTERING:
        raise IllegalVerbError("cancel", one.id, one.phase.value, legal_verbs(one))
    return move(one, P.CANCELLED, now, f"cancelled by {by}{': ' + reason if reason else ''}; {SERVES}")


def _ask(one: Retraining, seen: Circumstances, asks: Sequence[Safeguard]) -> Retraining:
    waiting = one.phase is P.AWAITING_APPROVAL and one.consent is not None
    fresh = Consent(seen.now, seen.now + seen.spec.retrain.approval_timeout)
    consent = one.consent if waiting and one.consent is not None else fresh
    said = f"asks for approval until {consent.expires_at:%Y-%m-%d %H:%M} UTC: {_told(asks)}"
    return _stay(one, said) if waiting else move(one, P.AWAITING_APPROVAL, seen.now, said, consent=consent)


def _stay(one: Retraining, said: str) -> Retraining:
    return replace(one, said=said)


def _told(safeguards: Sequence[Safeguard]) -> str:
    return "; ".join(f"{each.name}: {each.sentence}" for each in safeguards)
