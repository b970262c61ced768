"""One model version in memory: parse, predict and encode as `mlflow models serve` would, faults told apart."""

import threading
import time
from functools import wraps
from pathlib import Path
from typing import Any

import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from headgate.gateway.answers import read_answers
from headgate.gateway.execute import Answer, Arm, ArmFailedError
from headgate.gateway.lanes import Lane
from headgate.gateway.protocol import Body, Parsed, RefusedError, encode, parse, refusal

_UNEXPECTED = (
    "Encountered an unexpected error while evaluating the model. Verify that the serialized input Dataframe is"
    " compatible with the model for inference."
)
_TYPE_HINT_REFUSAL = "Failed to validate data against type hint"


class ServedModel:
    """A loaded version.

    Args:
        workers: most calls that it gets at once when it is on trial.
    """

    def __init__(self, name: str, version: str, pyfunc: Any, *, workers: int = 8) -> None:
        self.name = name
        self.version = version
        self.loaded_at = time.time()
        self.lane = Lane(f"{name}-{version}", workers)
        self._pyfunc = pyfunc
        self._schema = pyfunc.metadata.get_input_schema()
        self._inside = threading.local()
        self._mark_entry()

    def arm(self, arm: str) -> Arm[Body]:
        """This version as an arm; the champion's calls run where they are made."""
        return Arm(arm, self.version, self.call, None if arm == "champion" else self.lane)

    def call(self, body: Body) -> Answer:
        """Answer a body.

        Raises:
            RefusedError: the body does not fit this version's signature.
            ArmFailedError: the model raised, or answered what JSON can't carry.
        """
        parsed = parse(body, self._pyfunc.metadata, self._schema)
        self._inside.entered = False
        started = time.perf_counter()
        raw = self._predict(parsed)
        latency_ms = (time.perf_counter() - started) * 1000.0
        try:
            encoded = encode(raw, unwrapped=parsed.unwrapped)
            rows = read_answers(raw)
        except Exception as err:  # whatever the model made of its answer, it is the model's failure
            raise ArmFailedError("serialization", f"{type(err).__name__}: {err}") from err
        return Answer(raw, encoded, rows, latency_ms)

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
                raise RefusedError(400, "BAD_REQUEST", _UNEXPECTED) from err
            detail = f"{type(err).__name__}: {err}"[:2000]
            raise ArmFailedError(
                "model", detail, status=400, code="BAD_REQUEST", message=_UNEXPECTED
            ) from err

    def _mark_entry(self) -> None:
        """Note when MLflow's schema enforcement is through and the model itself runs."""
        inner, inside = self._pyfunc._predict_fn, self._inside

        @wraps(inner)
        def entering(*args: Any, **kwargs: Any) -> Any:
            inside.entered = True
            return inner(*args, **kwargs)

        self._pyfunc._predict_fn = entering


def load_model(name: str, version: str, folder: Path, *, workers: int = 8) -> ServedModel:
    """Load a version from its artifact folder, as MLflow's scoring server does."""
    pyfunc = mlflow.pyfunc.load_model(str(folder))
    return ServedModel(name, version, pyfunc, workers=workers)


VERSION: str = scoring_server.VERSION
"""What `/version` answers: MLflow's version."""
