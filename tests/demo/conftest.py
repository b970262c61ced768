"""A demo that went as promised, as facts."""

from datetime import UTC, datetime, timedelta

import pytest

from headgate.demo.facts import Event, Traffic, Way, count_traffic
from headgate.demo.report import Result

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def ways() -> list[Way]:
    good = Way(
        rollout_id="digits-v2-1",
        version="2",
        outcome="promoted",
        weights=(5.0, 10.0, 25.0, 50.0, 100.0),
        approval={"by": "dana", "at": "2026-11-21T09:00:40+00:00", "via": "prefect", "decision": "approve"},
        served=1200,
        failed=0,
        seconds_to_zero=None,
        recovery=None,
        decided_by="all 6 checks passed",
        reason="soaked 7 s at 100 %",
        checks={"accuracy": "pass", "latency": "pass"},
        started_at=after(5),
        ended_at=after(64),
        events=(
            Event(after(5), "start", "shadow", "alias challenger set", 0.0),
            Event(after(15), "step", "5 %", "agreement 0.93 over 700", 5.0),
            Event(after(23), "step", "10 %", "soaked", 10.0),
            Event(after(31), "step", "25 %", "soaked", 25.0),
            Event(after(38), "approval", "asks", "needs an approval", 25.0),
            Event(after(40), "approval", "approved", "dana said approve", 25.0),
            Event(after(41), "step", "50 %", "approved", 50.0),
            Event(after(48), "step", "100 %", "soaked", 100.0),
            Event(after(56), "end", "champion", "all checks pass", 100.0),
            Event(after(61), "end", "promoted", "watched", 100.0),
        ),
    )
    rejected = Way(
        rollout_id="digits-v3-1",
        version="3",
        outcome="rejected_in_shadow",
        weights=(),
        approval=None,
        served=0,
        failed=0,
        seconds_to_zero=None,
        recovery={"status": "successful_recovery", "score": 1.0},
        decided_by="agreement: fail",
        reason="agreement 0.4210 < 0.85",
        checks={"agreement": "fail"},
        started_at=after(66),
        ended_at=after(80),
        events=(
            Event(after(66), "start", "shadow", "alias challenger set", 0.0),
            Event(after(76), "bad", "rejected", "agreement 0.4210 < 0.85", 0.0),
        ),
    )
    back = Way(
        rollout_id="digits-v4-1",
        version="4",
        outcome="rolled_back",
        weights=(5.0, 10.0),
        approval=None,
        served=140,
        failed=19,
        seconds_to_zero=1.9,
        recovery={"status": "successful_recovery", "score": 1.0},
        decided_by="error_rate: critical",
        reason="error rate 0.2100 >= 0.1500 (critical)",
        checks={"error_rate": "critical"},
        started_at=after(82),
        ended_at=after(118),
        events=(
            Event(after(82), "start", "shadow", "alias challenger set", 0.0),
            Event(after(92), "step", "5 %", "agreement 0.99", 5.0),
            Event(after(100), "step", "10 %", "soaked", 10.0),
            Event(after(107), "bad", "cut off", "error rate 0.2100 >= 0.1500 (critical)", 0.0),
            Event(after(116), "end", "successful_recovery", "recovery score 1.00", 0.0),
        ),
    )
    return [good, rejected, back]


def share_at(second: int) -> tuple[str, str, int]:
    """Champion, challenger and the challenger's percent."""
    for until, weight in ((15, 0), (23, 5), (31, 10), (41, 25), (48, 50), (56, 100)):
        if second < until:
            return "1", "2", weight
    for until, weight in ((92, 0), (100, 5), (107, 10)):
        if second < until:
            return "2", "4", weight
    return "2", "4", 0


@pytest.fixture
def traffic() -> Traffic:
    rows = []
    for second in range(125):
        champion, challenger, weight = share_at(second)
        failed = weight if second in (105, 106) else 0
        rows += [(second + int(START.timestamp()), "champion", champion, False, 100 - weight + failed)]
        if weight - failed:
            rows += [(second + int(START.timestamp()), "challenger", challenger, False, weight - failed)]
        if failed:
            rows += [(second + int(START.timestamp()), "challenger", challenger, True, failed)]
        if 5 <= second < 15:
            rows += [(second + int(START.timestamp()), "shadow", "2", False, 100)]
    return count_traffic(rows)


@pytest.fixture
def result(ways: list[Way]) -> Result:
    return Result(
        ways=ways,
        requests=12500,
        client_errors=0,
        logged=12500,
        labels=12400,
        records=31,
        verified=True,
        champion="2",
        seconds={"stack": 31.0, "all": 128.0},
        addresses={"Prefect": "http://127.0.0.1:4200", "to look further": "headgate history digits-v4-1"},
    )
