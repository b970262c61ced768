"""One model version in memory: parse, predict and encode as `mlflow models serve` would, faults told apart."""

import threading
import time
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from headgate.answers import RowAnswer, as_text, read_answers
from headgate.gateway.batching import Batcher
from headgate.gateway.code_loading import load_pyfunc
from headgate.gateway.compiled import Compiled, compile_version
from headgate.gateway.execute import Answer, Arm, ArmFailedError
from headgate.gateway.lanes import Lane
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body, Parsed, RefusedError, encode, parse, refusal

UNEXPECTED = (
    "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is"
    " compatible with the model for inference."
)
MOST_JOINED = 64
"""Requests of one version under way at once, so that they can be joined."""
_PLAIN_JSON = frozenset(
    {"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"}
)
_TYPE_HINT_REFUSAL = "Failed to validate data against type hint"


class ServedModel:
    """A loaded version.

    Args:
        options: how it is served.
    """

    def __init__(self, name: str, version: str, pyfunc: Any, options: ServingOptions) -> None:
        self.name = name
        self.version = version
        self.loaded_at = time.time()
        self.options = options
        self.trouble: str | None = None
        self.lane = Lane(f"{name}-{version}", options.concurrency, options.queue)
        self.batcher = Batcher(calls=options.concurrency, patience_s=options.timeout_s / 2.0)
        self.join_requests(options.batch_rows, options.batch_wait_ms)
        self.compiled: Compiled | None = None
        self._pyfunc = pyfunc
        self._schema = pyfunc.metadata.get_input_schema()
        self._inside = threading.local()
        self._mark_entry()

    def arm(self, arm: str) -> Arm[Body]:
        """This version as an arm; the champion's calls run where they are made."""
        return Arm(arm, self.version, self.call, self.lane, self.options.timeout_s)

    def call(self, body: Body) -> Answer:
        """Answer a body.

        Raises:
            RefusedError: the body does not fit this version's signature.
            ArmFailedError: the model raised, or answered what JSON can't carry.
        """
        if self.compiled is not None and body.content_type in _PLAIN_JSON:
            answer = self._answer_compiled(self.compiled, body)
            if answer is not None:
                return answer
        with self.batcher.on_the_way():
            parsed = parse(body, self._pyfunc.metadata, self._schema)
            self._inside.entered = False
            started = time.perf_counter()
            raw = self._predict(parsed)
            latency_ms = (time.perf_counter() - started - self.batcher.spent_s) * 1000.0
        try:
            encoded = encode(raw, unwrapped=parsed.unwrapped)
            rows = read_answers(raw)
        except Exception as err:  # whatever the model made of its answer, it is the model's failure
            raise ArmFailedError("serialization", f"{type(err).__name__}: {err}") from err
        return Answer(raw, encoded, rows, latency_ms, asked=_count(parsed.data))

    def _answer_compiled(self, compiled: Compiled, body: Body) -> Answer | None:
        """The compiled form's answer; None = MLflow answers, or says what is wrong."""
        try:
            with self.batcher.on_the_way():
                rows = compiled.read(body.raw)
                if rows is None:
                    return None
                started = time.perf_counter()
                raw = self.batcher.predict(compiled.predict, rows, exact=compiled.batch_exact)
                latency_ms = (time.perf_counter() - started - self.batcher.spent_s) * 1000.0
            said = compiled.write(raw)
        except Exception:  # noqa: BLE001  a model may raise anything; MLflow's way tells what
            return None
        sure = said.confidences or [None] * len(said.predictions)
        answers = [RowAnswer(as_text(one), share) for one, share in zip(said.predictions, sure, strict=True)]
        return Answer(raw, said.body, answers, latency_ms, asked=len(rows))

    def join_requests(self, rows: int, wait_ms: float) -> None:
        """Answer requests that arrive together by one call of the model.

        Args:
            rows: most rows in one call; 1 = every request by itself. wait_ms: longest wait for further requests, >= 0.
        """
        self.batcher.wait_s, self.batcher.rows = wait_ms / 1000.0, rows
        # Several requests are one call: more of them may be under way at once.
        self.lane.workers = max(self.options.concurrency, min(rows, MOST_JOINED))

    def close(self) -> None:
        """Let its threads end; calls under way are finished."""
        self.lane.close()

    def _predict(self, parsed: Parsed) -> Any:
        try:
            return self._pyfunc.predict(parsed.data, params=parsed.params)
        except MlflowException as err:
            told = f"Failed to predict data '{parsed.data}'. \nError: {err.message}"
            refused = not self._inside.entered or _TYPE_HINT_REFUSAL in err.message
            err.message = told
            if refused:
                raise refusal(err) from err
            status = err.get_http_status_code()
            raise ArmFailedError(
                "model", err.message[-2000:], status=status, code=err.error_code, message=told
            ) from err
        except Exception as err:  # a model may raise anything; who answers then is decided by `execute`
            if not self._inside.entered:
                raise RefusedError(400, "BAD_REQUEST", UNEXPECTED) from err
            detail = f"{type(err).__name__}: {err}"[:2000]
            raise ArmFailedError("model", detail, status=400, code="BAD_REQUEST", message=UNEXPECTED) from err

    def _mark_entry(self) -> None:
        """Note when MLflow's schema enforcement is through and the model itself runs."""
        inner, inside = self._pyfunc._predict_fn, self._inside

        @wraps(inner)
        def entering(data: Any, **named: Any) -> Any:
            inside.entered = True
            if named.get("params"):
                return inner(data, **named)
            return self.batcher.predict(lambda rows: inner(rows, **named), data, way="pyfunc")

        self._pyfunc._predict_fn = entering


def _count(data: Any) -> int | None:
    """The rows that a model is asked; None for columns by name, where one can't tell."""
    if isinstance(data, np.ndarray):
        return len(data) if data.ndim else None
    if isinstance(data, pd.DataFrame | list):
        return len(data)
    return None


def load_model(name: str, version: str, folder: Path, options: ServingOptions) -> ServedModel:
    """Load a version from its artifact folder, as MLflow's scoring server does."""
    pyfunc = load_pyfunc(folder)
    served = ServedModel(name, version, pyfunc, options)
    # A model with a memory of its own must not see the rows of a proof.
    if options.compiled and not options.stateful:
        served.compiled = compile_version(pyfunc, folder)
    return served


VERSION: str = scoring_server.VERSION
"""What `/version` answers: MLflow's version."""
