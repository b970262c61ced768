"""The demo succeeds only when every fact is as promised."""

from dataclasses import replace
from typing import Any

import pytest

from headgate.demo.facts import Traffic, Way
from headgate.demo.page import write_page
from headgate.demo.picture import draw, shares
from headgate.demo.report import Result, as_json, as_table, broken_promises


def with_way(result: Result, index: int, **changes: Any) -> Result:
    ways = list(result.ways)
    ways[index] = replace(ways[index], **changes)
    return replace(result, ways=ways)


def test_a_demo_as_promised_breaks_no_promise(result: Result) -> None:
    assert broken_promises(result) == []


@pytest.mark.parametrize(
    ("index", "changes", "words"),
    [
        pytest.param(0, {"weights": (5.0, 10.0, 50.0, 100.0)}, "went through", id="a-stage-was-skipped"),
        pytest.param(0, {"weights": (5.0, 10.0, 25.0, 10.0, 25.0, 50.0, 100.0)}, "went through", id="stepped-down"),
        pytest.param(0, {"approval": None}, "no approval", id="nobody-approved"),
        pytest.param(0, {"approval": {"by": "", "at": "x", "via": "y", "decision": "approve"}}, "no approval", id="by-nobody"),
        pytest.param(0, {"outcome": "unfinished"}, "outcomes are", id="not-promoted"),
        pytest.param(1, {"served": 1}, "served 1", id="the-rejected-one-met-a-user"),
        pytest.param(2, {"outcome": "rejected_in_shadow"}, "outcomes are", id="never-ramped"),
        pytest.param(2, {"failed": 0}, "without a failed request", id="nothing-failed"),
        pytest.param(2, {"seconds_to_zero": None}, "without a failed request", id="not-measured"),
        pytest.param(2, {"recovery": None}, "without a recovery", id="no-recovery"),
    ],
)  # fmt: skip
def test_a_wrong_rollout_is_named(result: Result, index: int, changes: dict[str, Any], words: str) -> None:
    assert any(words in one for one in broken_promises(with_way(result, index, **changes)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"client_errors": 1}, "failed for a client", id="one-client-error"),
        pytest.param({"requests": 0, "logged": 0}, "no request", id="no-traffic"),
        pytest.param({"logged": 12499}, "prediction log", id="one-request-lost"),
        pytest.param({"verified": False}, "does not verify", id="evidence-tampered"),
        pytest.param({"records": 0}, "does not verify", id="no-evidence"),
        pytest.param({"champion": "1"}, "champion is 1", id="the-registry-disagrees"),
        pytest.param({"ways": []}, "outcomes are []", id="nothing-happened"),
    ],
)
def test_a_wrong_fact_is_named(result: Result, changes: dict[str, Any], words: str) -> None:
    assert any(words in one for one in broken_promises(replace(result, **changes)))


def test_the_report_has_the_form_of_the_issue(result: Result) -> None:
    report = as_json(result)
    good, rejected, back = report["rollouts"]

    assert good["weights"] == [5, 10, 25, 50, 100]
    assert good["approval"]["by"] == "dana"
    assert (rejected["outcome"], rejected["served_by_challenger"]) == ("rejected_in_shadow", 0)
    assert back["seconds_to_zero"] == 1.9
    assert back["recovery"]["status"] == "successful_recovery"
    assert back["decided_by"] == "error_rate: critical"
    assert report["evidence"] == {"records": 31, "verified": True}
    assert (report["requests"], report["client_errors"], report["broken_promises"]) == (12500, 0, [])
    assert as_table(result).row_count == 3


def test_shares_add_up_to_everything(traffic: Traffic) -> None:
    total = sum(shares(traffic).values())

    assert abs(total - 100).max() < 1e-9


def test_the_picture_is_drawn_and_the_page_stands_alone(
    result: Result, ways: list[Way], traffic: Traffic
) -> None:
    picture = draw(traffic, ways, "png")
    page = write_page(result, draw(traffic, ways, "svg"))

    assert picture.startswith(b"\x89PNG")
    assert "<svg" in page
    assert "rejected in shadow" in page
    for loading in ("<script", "src=", "<link", "@import", "url(http"):
        assert loading not in page


def test_a_demo_that_saw_nothing_can_still_be_drawn() -> None:
    assert draw(Traffic(), [], "png").startswith(b"\x89PNG")
