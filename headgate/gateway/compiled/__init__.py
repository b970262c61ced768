"""The compiled form of a model version: JSON to answer without a DataFrame, equal to MLflow's answer or none at all.

Three things are done once, when a version is loaded: its signature becomes a `Reader` of JSON bodies, its estimator becomes
arithmetic of our own where it is a known one (`freezing`), and both are held against the model itself (`proof`). A body that
the reader does not know for sure to be accepted by MLflow, with these very values, is nobody's here: pyfunc answers it.
"""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from headgate.gateway.compiled import proof
from headgate.gateway.compiled.fields import Fields, Matrix, read_fields
from headgate.gateway.compiled.form import Form, NotFrozenError
from headgate.gateway.compiled.reading import Reader
from headgate.gateway.compiled.writing import Written, write

__all__ = ["Compiled", "FastAnswer", "Fields", "Form", "Written", "compile_version"]

log = logging.getLogger(__name__)

_WHOLE_EVERY = 8
INLINE_MS = 1.0
"""What one row may take, and all rows of a request, to be answered on the event loop."""


class FastAnswer(NamedTuple):
    """An answer, ready to be sent: `Written` and the milliseconds of the model's predict alone."""

    body: bytes
    predictions: list[Any]
    confidences: list[float | None] | None
    latency_ms: float


class Compiled:
    """A version's compiled form. Safe to call from several threads.

    Attributes:
        form: `linear`, `trees`, `boosting`; or the estimator itself behind the compiled reader, asked with an `array`, or as
            `sklearn` with a DataFrame.
        inline: True = own bounded arithmetic, under `INLINE_MS` a row: it may run on the event loop.
        inline_rows: most rows for which that holds of the request as a whole, >= 1 when inline.
        batch_exact: True = a row's answer can't depend on the rows beside it.
    """

    def __init__(self, pyfunc: Any, fields: Fields, form: Form) -> None:
        self._estimator = getattr(pyfunc._model_impl, _method(pyfunc))
        self._telling = form.telling
        self.form = form.name
        self.batch_exact = form.batch_exact
        self.inline = False
        self.inline_rows = 0
        self.reason: str | None = None
        self._pyfunc = pyfunc
        self._schema = pyfunc.metadata.get_input_schema()
        self._fields = fields
        self._read = Reader(fields, any_index=form.name != "sklearn")
        self._run = form.run

    def read(self, raw: bytes) -> Matrix | None:
        """The rows of a JSON body, (n, k), float64 or, with text, objects; None = not mine, pyfunc answers."""
        return None if self.reason is not None else self._read(raw)

    def predict(self, rows: Matrix) -> Any:
        """What the model's predict returns for these rows; raises what the model raises."""
        return self._run(rows)

    def write(self, native: Any) -> Written:
        """The answer as it is sent and logged.

        Raises:
            TypeError, ValueError: it is nothing that JSON can carry.
        """
        return write(native)

    def answer(self, raw: bytes) -> FastAnswer | None:
        """Answer a JSON body; None = not mine, or the model failed: pyfunc answers, and says why."""
        rows = self.read(raw)
        if rows is None:
            return None
        try:
            began = time.perf_counter()
            native = self._run(rows)
            latency_ms = (time.perf_counter() - began) * 1000.0
            return FastAnswer(*write(native), latency_ms)
        except Exception:  # noqa: BLE001  a model may raise anything; pyfunc then says it as MLflow does
            return None

    def suspect(self, reason: str) -> None:
        """Turn it off for good."""
        log.error(
            "the compiled form %s is turned off: %s; every request goes through MLflow", self.form, reason
        )
        self.inline = False
        self.reason = reason

    def equals_original(self, raw: bytes) -> bool:
        """Does all of MLflow answer this body alike? A body that is not taken here counts as alike."""
        said = self._own(raw)
        return said is None or proof.same(said, self._whole(raw))

    def verify(self, rows: Sequence[Any]) -> int:
        """How many of these logged input rows (JSON objects, or lists for a tensor) are answered otherwise.

        Each is held against the model itself, and some of them against MLflow as a whole, which takes ten times as long.
        """
        key = "inputs" if self._fields.names is None else "dataframe_records"
        wrong = 0
        for at, row in enumerate(rows):
            try:
                raw = json.dumps({key: [row]}).encode()
            except (TypeError, ValueError):
                continue
            said = self._own(raw)
            if said is not None:
                wrong += not proof.same(said, self._direct(raw) if at % _WHOLE_EVERY else self._whole(raw))
        return wrong

    def prove(self, folder: Path) -> bytes | None:
        """A body that is answered otherwise than by the model, or None. `folder` is the model's."""
        return proof.difference(self._own, self._whole, self._direct, self._fields, self._telling, folder)

    def _own(self, raw: bytes) -> Written | None:
        answer = self.answer(raw)
        return None if answer is None else Written(*answer[:3])

    def _whole(self, raw: bytes) -> proof.Original | None:
        return proof.original(self._pyfunc, self._schema, raw)

    def _direct(self, raw: bytes) -> proof.Original | None:
        """The model alone, on what the reader makes of a body."""
        rows = self._read(raw)
        try:
            return None if rows is None else proof.as_written(self._estimator(self._fields.native(rows)))
        except Exception:  # noqa: BLE001  a model may raise anything
            return None

    def measure(self) -> None:
        """Time one row and many, and set `inline` by it."""
        values = proof.make_rows(self._fields, self._telling)
        raw, many = proof.body(values[:1], self._fields), proof.body(values, self._fields)
        one_ms, all_ms = (min(self._timed(text) for _ in range(10)) for text in (raw, many))
        self.inline = one_ms < INLINE_MS
        each_ms = max((all_ms - one_ms) / (len(values) - 1), 1e-4)
        self.inline_rows = max(1, int(1 + (INLINE_MS - one_ms) / each_ms)) if self.inline else 0

    def _timed(self, raw: bytes) -> float:
        """Milliseconds of CPU, whatever else the machine does."""
        began = time.thread_time()
        self.answer(raw)
        return (time.thread_time() - began) * 1000.0


def compile_version(pyfunc: Any, folder: Path) -> Compiled | None:
    """The compiled form of a loaded model.

    Args:
        pyfunc: as `mlflow.pyfunc.load_model` gave it. folder: its files, with the input example if there is one.

    Returns:
        None when the model is of another flavour, its signature is not understood, or it answers otherwise.
    """
    try:
        fields = _understood(pyfunc)
        if fields is None:
            return None
        for form in _forms(pyfunc, fields):
            compiled = Compiled(pyfunc, fields, form)
            differs = compiled.prove(folder)
            if differs is not None:
                log.warning(
                    "the form %s is not used: the model answers otherwise to %.500s", form.name, differs
                )
                continue
            if form.name != "sklearn":
                compiled.measure()
            return compiled
    except Exception:  # a version that can't be compiled is served by pyfunc
        log.exception("the model in %s could not be compiled; every request goes through MLflow", folder)
    return None


def _understood(pyfunc: Any) -> Fields | None:
    """The signature of a scikit-learn model; None for any other."""
    metadata = pyfunc.metadata
    if pyfunc.loader_module != "mlflow.sklearn" or type(pyfunc._model_impl).__module__ != "mlflow.sklearn":
        return None
    if metadata.get_params_schema() is not None or metadata._is_signature_from_type_hint():
        return None
    return None if metadata._is_type_hint_from_example() else read_fields(metadata.get_input_schema())


def _method(pyfunc: Any) -> str:
    return str(pyfunc.metadata.flavors["python_function"].get("predict_fn", "predict"))


def _forms(pyfunc: Any, fields: Fields) -> Iterator[Form]:
    """The forms to try, fastest first."""
    model, method = pyfunc._model_impl.sklearn_model, _method(pyfunc)
    estimator = getattr(pyfunc._model_impl, method)
    # scikit-learn is loaded with the first model that is made of it, not with the gateway.
    from headgate.gateway.compiled.by_array import expect_arrays, takes_arrays
    from headgate.gateway.compiled.freezing import freeze, known_texts

    form: Form | None = None
    try:
        form = freeze(model, method, fields)
    except NotFrozenError as err:
        log.info("%s runs by itself behind the compiled reader: %s", type(model).__name__, err)
    except Exception as err:  # noqa: BLE001  another release of scikit-learn may be built otherwise
        log.warning("%s can't be frozen: %s: %s", type(model).__name__, type(err).__name__, err)
    if form is not None:
        yield form
    if takes_arrays(model, fields):
        expect_arrays()
        yield Form("array", estimator, telling=form.telling if form else ())
    telling = form.telling if form else known_texts(model, fields) if fields.has_text else ()
    yield Form("sklearn", lambda rows: estimator(fields.native(rows)), telling=telling)
