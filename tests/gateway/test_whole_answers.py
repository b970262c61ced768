"""A trial's answer with rows missing goes to no caller where the champion's has them."""

import pytest

from headgate.answers import RowAnswer
from headgate.core.routing.split import Assignment, Reason
from headgate.gateway.execute import Answer, Arm, ArmFailedError, execute
from headgate.gateway.protocol import RefusedError

TO_TWO = Assignment("2", "challenger", Reason.SPLIT)


def said(*texts: str | None, asked: int | None = 2) -> Answer:
    return Answer(None, repr(texts).encode(), [RowAnswer(text) for text in texts], 1.0, asked=asked)


def arm(name: str, version: str, answer: Answer | Exception) -> Arm[str]:
    def call(_: str) -> Answer:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Arm(name, version, call)


@pytest.mark.parametrize(
    ("trial", "champion", "version", "detail"),
    [
        (said("b", "b"), said("a", "a"), "2", None),
        (said("b", None), said("a", "a"), "1", "no prediction in row(s) [1], 2 row(s) answered of 2"),
        (said("b"), said("a", "a"), "1", "no prediction in row(s) [1], 1 row(s) answered of 2"),
        (said(), said("a", "a"), "1", "no prediction in row(s) [0, 1], 0 row(s) answered of 2"),
        (said("b", "b", "b"), said("a", "a"), "1", "no prediction in row(s) [], 3 row(s) answered of 2"),
        (said("b", None, asked=None), said("a", "a"), "1", "no prediction in row(s) [1], 2 row(s) answered"),
        (said("b", None), said("a", None), "2", None),
        (said("b", None), said(None, "a"), "1", "no prediction in row(s) [1], 2 row(s) answered of 2"),
        (said("b"), said("a"), "2", None),
        (said("b", None), ArmFailedError("model", "x"), "2", None),
        (said("b", None), RefusedError(400, "BAD_REQUEST", "x"), "2", None),
        (said("b", asked=None), said("a", "a"), "2", None),
    ],
    ids=[
        "whole",
        "nan",
        "too-few",
        "none",
        "too-many",
        "nan-rows-unknown",
        "champion-has-the-same-hole",
        "champion-has-another-hole",
        "one-answer-for-all-from-both",
        "champion-fails",
        "champion-refuses",
        "nothing-to-hold-it-to",
    ],
)
def test_the_champion_answers_where_it_does_better(
    trial: Answer, champion: Answer | Exception, version: str, detail: str | None
) -> None:
    """RT-13, issue 4 must be shown 4: NaN or the wrong shape is the challenger's failure, never the caller's."""
    found = execute(TO_TWO, arm("champion", "1", champion), arm("challenger", "2", trial), "body", 1.0)

    assert (found.version, found.answer is not None) == (version, True)
    assert [(failure.category, failure.detail) for failure in found.failures] == (
        [("model", detail)] if detail else []
    )
    assert found.reason is (Reason.FALLBACK_ERROR if detail else Reason.SPLIT)
