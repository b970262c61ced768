"""Made-up bodies: headgate accepts what MLflow's scoring server accepts, and answers the same bytes."""

import json
import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from mlflow.exceptions import MlflowException
from mlflow.types import Schema

from headgate.gateway.execute import ArmFailedError
from headgate.gateway.protocol import Body, RefusedError
from headgate.gateway.v2_bodies import read_inference, to_answer, to_body
from tests.gateway.bodies import bodies
from tests.gateway.oracle import (
    FITTED,
    JSON,
    SCHEMAS,
    Pair,
    Said,
    ask_headgate,
    ask_mlflow,
    load_pair,
    save_echo,
    save_fitted,
)
from tests.gateway.tensors import Case, cases, mutations

NAMES = [*SCHEMAS, *FITTED]
WITH_PARAMS = ("mixed", "tensor")
FEW, MANY = 8, 200
"""Bodies per model; there are about thirty models."""

Models = Callable[[str], Pair]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """`models(name)`: one of `SCHEMAS` or `FITTED`, as MLflow serves it and as headgate does."""
    folder = tmp_path_factory.mktemp("models")

    @cache
    def load(name: str) -> Pair:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name in FITTED:
                return load_pair(save_fitted(folder / name, *FITTED[name]))
            return load_pair(save_echo(folder / name, SCHEMAS[name], params=name in WITH_PARAMS))

    return load


def schema_of(name: str) -> Schema | None:
    return FITTED[name][1] if name in FITTED else SCHEMAS[name]


def trying(examples: int) -> Any:
    """Fixed seeds; no shrinking by time, since MLflow takes its own."""
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


def same(expected: Said, found: Said) -> bool:
    """The same answer; MLflow's own breakdowns (500) are the caller's fault here (400)."""
    if expected.status == 500:
        return found.status == 400
    return (expected.status, _plain(expected.body), expected.media_type) == (
        found.status,
        _plain(found.body),
        found.media_type,
    )


def _plain(body: bytes) -> bytes:
    """Without the addresses of objects in messages."""
    return re.sub(rb"0x[0-9a-f]+", b"0x", body)


def compare(pair: Pair, schema: Schema | None, examples: int) -> None:
    @trying(examples)
    @given(bodies(schema))
    def every_body(body: Body) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected, found = ask_mlflow(pair.mlflow, body), ask_headgate(pair.headgate, body)
            assert same(expected, found), (body, expected, found)
            compiled = pair.headgate.compiled
            fast = compiled.answer(body.raw) if compiled is not None and body.content_type == JSON else None
            if fast is not None:
                assert (200, fast.body) == (expected.status, expected.body), body

    every_body()


@pytest.mark.parametrize("name", NAMES)
def test_a_body_is_accepted_and_answered_as_by_mlflow(name: str, models: Models) -> None:
    """Issue 4, must be shown 6."""
    compare(models(name), schema_of(name), FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_bodies_are_accepted_and_answered_as_by_mlflow(name: str, models: Models) -> None:
    """Issue 4, must be shown 6."""
    compare(models(name), schema_of(name), MANY)


def answer_v2(pair: Pair, raw: bytes) -> dict[str, Any] | None:
    """The answer to a v2 body; None = refused, or the model failed. Anything else that is raised would be a 500."""
    signature = pair.mlflow.metadata.signature
    try:
        inference = read_inference(raw)
        answered = pair.headgate.call(to_body(inference, signature)).body
        answer = to_answer(answered, signature, inference.outputs)
    except (RefusedError, ArmFailedError):
        return None
    json.dumps(answer, allow_nan=False)
    return answer


def compare_v2(pair: Pair, schema: Schema | None, examples: int) -> None:
    @trying(examples)
    @given(cases(schema))
    def every_request(case: Case) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = answer_v2(pair, json.dumps(case.body).encode())
            try:
                expected = pair.mlflow.predict(case.equal)
            except MlflowException:
                return
            except Exception:  # noqa: BLE001  the model itself can't take these values
                assert answer is None, case
                return
        assert answer is not None, case
        said = answer["outputs"][0]
        wanted = np.asarray(expected)
        assert said["data"] == json.loads(
            pd.Series(wanted.reshape(-1)).to_json(orient="values", double_precision=15)
        ) or (
            np.array_equal(
                np.array(said["data"], dtype=wanted.dtype),
                wanted.reshape(-1),
                equal_nan=wanted.dtype.kind == "f",
            )
        ), (case, said, expected)

    @trying(examples)
    @given(mutations(schema))
    def every_mutation(raw: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer_v2(pair, raw)

    every_request()
    every_mutation()


@pytest.mark.parametrize("name", NAMES)
def test_a_v2_request_is_answered_as_the_equal_frame(name: str, models: Models) -> None:
    """Issue 4, must be shown 6: what is accepted equals `pyfunc.predict` on the equal frame; nothing is a 500."""
    compare_v2(models(name), schema_of(name), FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_v2_requests_are_answered_as_the_equal_frames(name: str, models: Models) -> None:
    """Issue 4, must be shown 6."""
    compare_v2(models(name), schema_of(name), MANY)
