"""A request's journal line holds what the rows held that were written before."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.answers import RowAnswer, as_text
from headgate.core.routing.split import Assignment, Reason
from headgate.errors import BadRequestError
from headgate.gateway.execute import Answer, Execution
from headgate.gateway.protocol import Body
from headgate.gateway.requests import Call
from headgate.gateway.rows import Origin, executed, mirrored
from headgate.store.batches import Batch, decode
from headgate.store.requests import (
    MAX_LOGGED_INPUT_BYTES,
    RequestRecord,
    input_rows,
    mirrored_line,
    request_line,
)
from headgate.store.rows import PREDICTION_COLUMNS, prediction_line, share
from tests.store.making import PLAIN

INPUTS, PREDICTION, KEY = (PREDICTION_COLUMNS.index(name) for name in ("inputs", "prediction", "key"))


def the_old_way(record: RequestRecord) -> Batch:
    """One line for each row, made when the request is answered."""
    said = [
        RowAnswer(
            as_text(value),
            None if not record.confidences else share(dict(enumerate(record.confidences)).get(index)),
        )
        for index, value in enumerate(record.predictions)
    ]
    answer = Answer(None, b"", said, record.latency_ms, record.cache)  # type: ignore[arg-type]
    assigned = Assignment(record.arm, record.version, Reason.SPLIT)
    execution = Execution(assigned, record.arm, record.version, Reason.SPLIT, answer)
    call = Call(Body(record.body, "application/json"), record.request_id, True, record.user_id)
    call.__dict__["key"] = (record.key, record.key_kind)
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=record.time_us)
    rows = executed(Origin(record.tenant, record.model, record.rollout_id, at), call, execution)
    return decode(b"".join(prediction_line(row) for row in rows))


# What comes in headers is printable ASCII; names of models and versions may be any text.
NAMES = st.text(min_size=1, max_size=30)
IDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["\x00", "\ud800", "null", "1e3", " 3.0 ", "x" * 2_001, 1e300, -0.0, 5e-324, 1e16, 2**64]
    ),
)
JSON = st.recursive(
    st.one_of(VALUES, st.floats(), st.integers(-(2**70), 2**70)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
BODIES = st.one_of(
    st.binary(max_size=30),
    st.builds(
        lambda rows: {"dataframe_split": {"columns": ["a", "b"], "data": rows}},
        st.lists(st.lists(JSON, max_size=3)),
    ),
    st.builds(
        lambda c, rows: {"dataframe_split": {"columns": c, "data": rows}}, JSON, st.lists(JSON, max_size=3)
    ),
    st.builds(
        lambda name, rows: {name: rows}, st.sampled_from(["inputs", "instances", "dataframe_records"]), JSON
    ),
    JSON,
)
SPELLINGS = st.tuples(
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "utf-32-le"]),
)


def spelt(content: Any, spelling: tuple[Any, bool, str]) -> bytes:
    indent, ascii_only, encoding = spelling
    if isinstance(content, bytes):
        return content
    return json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode(encoding, "surrogatepass")


RECORDS = st.builds(
    RequestRecord,
    time_us=st.integers(0, 4_000_000_000_000_000),
    tenant=NAMES,
    model=NAMES,
    request_id=IDS,
    key=IDS,
    key_kind=st.sampled_from(["user", "entity", "request", "payload"]),
    user_id=st.none() | IDS,
    arm=st.sampled_from(["champion", "challenger", "excluded", "holdback"]),
    version=NAMES,
    rollout_id=st.none() | NAMES,
    reason=st.just("split"),
    latency_ms=st.none() | st.floats(0, 1e6),
    cache=st.sampled_from([None, "hit", "miss"]),
    predictions=st.lists(VALUES, max_size=4),
    confidences=st.none() | st.lists(st.none() | st.floats(0, 1), max_size=4),
    body=st.builds(spelt, BODIES, SPELLINGS),
)


@settings(max_examples=100, deadline=None)
@given(RECORDS)
def test_a_request_line_holds_the_rows_that_were_written_before(record: RequestRecord) -> None:
    expected = the_old_way(record)
    got = decode(request_line(*record))

    assert got.dropped == expected.dropped == 0
    assert got.predictions == expected.predictions


def test_a_body_on_many_lines_takes_one() -> None:
    body = json.dumps({"instances": [{"x": 1}, {"x": 2}]}, indent=2).encode()
    line = request_line(*PLAIN._replace(body=body, predictions=[1, 2]))

    assert line.count(b"\n") == 1
    assert [row[INPUTS] for row in decode(line).predictions] == [b'{"x":1}', b'{"x":2}']


def test_a_large_body_is_logged_without_its_inputs() -> None:
    body = json.dumps({"instances": [["x" * MAX_LOGGED_INPUT_BYTES]]}).encode()
    line = request_line(*PLAIN._replace(body=body))

    assert len(line) < 1_000
    assert [row[INPUTS] for row in decode(line).predictions] == [None]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (math.nan, None),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (2**80, str(2**80)),
        ("\x00", "\ufffd"),
        ("\ud800", "?"),
    ],
)
def test_what_json_has_no_word_for_is_kept_as_text(said: Any, text: str | None) -> None:
    (row, other) = decode(request_line(*PLAIN._replace(predictions=[said, 7]))).predictions

    assert row[PREDICTION] == text or text == "?"
    assert other[PREDICTION] == "7"
    assert "\x00" not in str(row[PREDICTION])


@pytest.mark.parametrize(
    "changes",
    [
        {"request_id": "x" * 201},
        {"request_id": ""},
        {"key": "x" * 501},
        {"model": "x" * 256},
        {"version": ""},
    ],
    ids=repr,
)
def test_a_line_that_names_nothing_costs_that_line_only(changes: dict[str, Any]) -> None:
    """DB-14."""
    lines = [request_line(*PLAIN), request_line(*PLAIN._replace(**changes)), request_line(*PLAIN)]
    batch = decode(b"".join(lines))

    assert (len(batch.predictions), batch.dropped) == (2, 1)


def test_a_name_that_is_no_text_is_refused_when_it_can_not_be_written() -> None:
    with pytest.raises(BadRequestError, match="model"):
        request_line(*PLAIN._replace(model=object()))  # type: ignore[arg-type]


def test_nul_characters_in_names_are_replaced() -> None:
    (row,) = decode(request_line(*PLAIN._replace(key="a\x00b"))).predictions

    assert row[KEY] == "a\ufffdb"


def test_a_torn_line_costs_that_line_only() -> None:
    line = request_line(*PLAIN)
    for cut in range(1, len(line) - 1):
        batch = decode(line + line[:-cut])
        assert (len(batch.predictions), batch.dropped) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        '{"dataframe_split": {"columns": [["a", "b"]], "data": [[1]]}}',
        '{"dataframe_split": {"columns": 3, "data": [[1]]}}',
        '{"dataframe_split": {"columns": ["a"], "data": [1]}}',
        '{"instances": ' + "[" * 5_000 + "]" * 5_000 + "}",
    ],
)
def test_a_body_that_nobody_expected_has_no_inputs_and_fails_nothing(text: str) -> None:
    assert input_rows(text.encode()) is None


SIMPLE = st.one_of(
    st.booleans(), st.integers(-(2**40), 2**40), st.floats(-1e9, 1e9), st.text("abc 12.", max_size=8)
)


@settings(max_examples=150, deadline=None)
@given(pairs=st.lists(st.tuples(SIMPLE, SIMPLE), min_size=1, max_size=4), sure=st.booleans())
def test_a_mirrored_line_holds_what_its_rows_held(pairs: list[tuple[Any, Any]], sure: bool) -> None:
    """SH-03: the shadow's answer, the champion's beside it, and whether they agree."""
    mine, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    shares = [0.25] * len(pairs) if sure else None
    body = json.dumps({"inputs": [[1.0]] * len(pairs)}).encode()
    call = Call(Body(body, "application/json"), "r1", True, "u1")
    key, kind = call.key
    assigned = Assignment("1", "champion", Reason.CHAMPION_ONLY)

    def said(values: list[Any], latency_ms: float) -> Answer:
        rows = [RowAnswer(as_text(value), 0.25 if sure else None) for value in values]
        return Answer(None, b"", rows, latency_ms)

    champion = Execution(assigned, "champion", "1", Reason.CHAMPION_ONLY, said(theirs, 2.0))
    origin = Origin("t", "m", None, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=7))
    rows = mirrored(origin, call, "2", champion, said(mine, 1.0))
    request = request_line(
        7,
        "t",
        "m",
        "r1",
        key,
        kind,
        "u1",
        "shadow",
        "2",
        None,
        Reason.SHADOW.value,
        1.0,
        None,
        mine,
        shares,
        body,
    )
    line = mirrored_line(request, "1", 2.0, theirs, shares)

    assert line is not None
    assert decode(line) == decode(b"".join(prediction_line(row) for row in rows))


def test_what_json_can_not_hold_gets_no_mirrored_line() -> None:
    request = request_line(
        7, "t", "m", "r1", "k", "user_id", "u1", "shadow", "2", None, "shadow", 1.0, None, [1], None, b"{}"
    )
    assert mirrored_line(request, "1", 2.0, [math.nan], None) is None
    assert mirrored_line(request, "1", 2.0, [1], [None]) is None
