"""What the drift story promises, each checked against what is so."""

from headgate.core.retraining.state import RetrainingPhase
from headgate.demo.drift.report import Attempt, Result, Shares, attempt_ended, ended_as, refused_points
from headgate.demo.report import RAMP

WITHIN_HOURS = 24.0
LEAST_CALM = 20
GAIN = 0.05
"""Points of live accuracy (0-1) that the accepted retraining must bring, and the poisoned one must cost."""
_ENDS = ["refused", "promoted", "taken_back"]


def broken_promises(result: Result) -> list[str]:
    """Every fact that is not as the story promises, one sentence each; empty when all are."""
    wrong = [*_about_drift(result), *_about_waiting(result)]
    ends = ended_as(result)
    if ends != _ENDS:
        wrong.append(f"the retrainings ended {ends}, not {_ENDS}")
    if (refused := attempt_ended(result, RetrainingPhase.REFUSED)) is not None:
        wrong += _about_refused(refused)
    if (promoted := attempt_ended(result, RetrainingPhase.PROMOTED)) is not None:
        wrong += _about_promoted(result, promoted)
    if (back := attempt_ended(result, RetrainingPhase.TAKEN_BACK)) is not None:
        wrong += _about_taken_back(result, back)
    return wrong + _about_traffic(result)


def _about_drift(result: Result) -> list[str]:
    wrong = []
    false_alarms = [one.day.isoformat() for one in result.calm if one.drifted]
    if false_alarms:
        wrong.append(f"drift was reported before the world moved: {', '.join(false_alarms)}")
    if not len(result.calm) >= LEAST_CALM:
        wrong.append(f"{len(result.calm)} calm days were judged, {LEAST_CALM} were promised")
    alarm, hours = result.first_alarm, result.hours_to_alarm
    if alarm is None or alarm.report is None or hours is None:
        return [*wrong, "the move of the world was never reported"]
    if not hours <= WITHIN_HOURS:
        wrong.append(f"drift was reported {hours:.0f} simulated hours after the move, not within a day")
    missed = sorted(set(result.moved) - {one.column for one in alarm.report.findings})
    if missed:
        wrong.append(f"the report does not name {', '.join(missed)}")
    if alarm.report.since != result.moved_at.date():
        wrong.append(f"the report says since {alarm.report.since}, the world moved {result.moved_at.date()}")
    if not alarm.report.recommendation or alarm.report.recommendation == "none":
        wrong.append("the report recommends nothing")
    if not result.pages:
        wrong.append("no page of the drift report was written")
    return wrong


def _about_waiting(result: Result) -> list[str]:
    """Nothing is retrained while the flag is off, or before drift is confirmed."""
    wrong = []
    if not result.nights:
        wrong.append("nobody looked whether to retrain")
    elif not any(name == "flag" for name in result.nights[-1].in_the_way):
        wrong.append(
            f"with ENABLE_AUTO_RETRAIN off, {', '.join(result.nights[-1].in_the_way) or 'nothing'} stood in the way"
        )
    held = [night for night in result.nights if night.in_the_way]
    if held and "confirmation" not in held[0].in_the_way:
        wrong.append(
            "the first night on which something asked for a retraining did not wait for a confirmation"
        )
    if result.nights and "confirmation" in result.nights[-1].in_the_way:
        wrong.append("drift was not confirmed after all simulated days")
    begun = [one.phases[0][1] for one in result.attempts if one.phases]
    if begun and (result.flag_on_at is None or min(begun) < result.flag_on_at):
        wrong.append("a retraining began before ENABLE_AUTO_RETRAIN was switched on")
    return wrong


def _about_refused(one: Attempt) -> list[str]:
    made, wrong = one.retraining, []
    if not refused_points(made):
        wrong.append(f"{made.id} was refused without a point that its validation found wanting")
    if made.version is not None or one.way is not None:
        wrong.append(f"{made.id} was refused and yet there is version {made.version}")
    return wrong


def _about_promoted(result: Result, one: Attempt) -> list[str]:
    made, wrong = one.retraining, []
    if one.way is None or one.way.weights != RAMP:
        wrong.append(
            f"version {made.version} went through {list(one.way.weights) if one.way else 'no rollout'}"
        )
    if not one.card:
        wrong.append(f"version {made.version} has no model card")
    if not one.lineage:
        wrong.append(f"version {made.version} does not say what it was trained on")
    before, after = result.live.get("first_champion"), result.live.get("retrained")
    if before is None or after is None or not after.truth - before.truth >= GAIN:
        wrong.append(
            f"live accuracy went from {_share(before)} to {_share(after)} with the retrained version"
        )
    if result.champions.get("at the end") != made.version:
        wrong.append(f"MLflow's champion is {result.champions.get('at the end')}, not version {made.version}")
    return wrong


def _about_taken_back(result: Result, one: Attempt) -> list[str]:
    made, wrong = one.retraining, []
    if result.champions.get("poisoned promoted") != made.version:
        wrong.append(
            f"the poisoned version {made.version} was never champion, so there was nothing to take back"
        )
    if not all(finding["passed"] is True for finding in made.validation) or not made.validation:
        wrong.append(f"the poisoned version {made.version} did not pass its validation")
    way = one.way
    if way is None or way.outcome != "rolled_back":
        wrong.append(f"the rollout of the poisoned version {made.version} was not rolled back")
    elif (way.recovery or {}).get("status") not in ("successful_recovery", "partial_recovery"):
        wrong.append(f"version {made.version} was taken back without a recovery status")
    poisoned, after = result.live.get("poisoned"), result.live.get("taken_back")
    if poisoned is None or after is None or not after.truth - poisoned.truth >= GAIN:
        wrong.append(f"live accuracy went from {_share(poisoned)} to {_share(after)} when it was taken back")
    if poisoned is not None and not poisoned.told - poisoned.truth >= GAIN:
        wrong.append("the poisoned labels did not make the poisoned version look better than it is")
    return wrong


def _about_traffic(result: Result) -> list[str]:
    wrong = []
    if result.requests == 0:
        wrong.append("no request was sent")
    if result.client_errors != 0:
        wrong.append(f"{result.client_errors} of {result.requests} requests failed for a client")
    if result.logged != result.requests:
        wrong.append(f"{result.requests} requests were sent, {result.logged} are in the prediction log")
    if result.records == 0 or not result.verified:
        wrong.append(f"the evidence chain of {result.records} records does not verify")
    return wrong


def _share(found: Shares | None) -> str:
    return "unknown" if found is None else f"{found.truth:.1%}"
