"""MLflow's scoring protocol: reading a body and writing an answer with MLflow's own code."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

CONTENT_TYPES = (
    scoring_server.CONTENT_TYPE_CSV,
    scoring_server.CONTENT_TYPE_JSON,
    scoring_server.CONTENT_TYPE_PARQUET,
)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body as it came."""

    raw: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A body as a model of one signature reads it.

    Attributes:
        data: what `predict` gets. params: the request's `params`, or None.
        unwrapped: True = the answer is written without the `predictions` key (chat and completion inputs).
    """

    data: Any
    params: dict[str, Any] | None
    unwrapped: bool


class RefusedError(Exception):
    """The caller's fault: the body can't be used. `args` is (status, error code, message, plain)."""

    def __init__(self, status: int, error_code: str, message: str, *, plain: bool = False) -> None:
        super().__init__(status, error_code, message, plain)

    @property
    def status(self) -> int:
        """The HTTP status to answer with."""
        return int(self.args[0])

    @property
    def message(self) -> str:
        """What is wrong with the body."""
        return str(self.args[2])

    @property
    def answer(self) -> tuple[bytes, str]:
        """Body and media type of the answer, as MLflow's scoring server writes them."""
        _, error_code, message, plain = self.args
        if plain:
            return message.encode(), "text/plain"
        return json.dumps({"error_code": error_code, "message": message}).encode(), "application/json"


def refusal(error: MlflowException) -> RefusedError:
    """MLflow's refusal as ours: its status and text, never its stack trace."""
    status = error.get_http_status_code()
    return RefusedError(status if 400 <= status < 500 else 400, error.error_code, error.message)


def check_content_type(content_type: str) -> str:
    """The media type of a body that can be read.

    Raises:
        RefusedError: 415 with MLflow's texts.
    """
    media, *parameters = [part.strip() for part in content_type.split(";")]
    values = {name: value for name, _, value in (pair.partition("=") for pair in parameters)}
    if values.get("charset", "utf-8").lower() != "utf-8":
        raise RefusedError(415, "", "The scoring server only supports UTF-8", plain=True)
    if unexpected := set(values) - {"charset"}:
        message = f"Unrecognized content type parameters: {', '.join(unexpected)}. "
        raise RefusedError(415, "", message + scoring_server.SCORING_PROTOCOL_CHANGE_INFO, plain=True)
    if media not in CONTENT_TYPES:
        message = (
            "This predictor only supports the following content types:"
            f" Types: {list(CONTENT_TYPES)}. Got '{content_type}'."
        )
        raise RefusedError(415, "", message, plain=True)
    return media


def parse(body: Body, metadata: Any, schema: Any) -> Parsed:
    """Read a body as `mlflow models serve` would for a model with this metadata and input schema.

    Raises:
        RefusedError: the body is not what the model's signature asks for.
    """
    media = check_content_type(body.content_type)
    try:
        if media == scoring_server.CONTENT_TYPE_JSON:
            read = scoring_server._parse_json_data(body.raw, metadata, schema)
            return Parsed(read.data, read.params, read.is_unified_llm_input)
        if media == scoring_server.CONTENT_TYPE_CSV:
            text = body.raw.decode("utf-8")
            return Parsed(scoring_server.parse_csv_input(StringIO(text), schema), None, False)
        return Parsed(scoring_server.parse_parquet_input(BytesIO(body.raw)), None, False)
    except MlflowException as err:
        raise refusal(err) from err
    except (UnicodeDecodeError, RecursionError) as err:
        message = f"Invalid input. Ensure that input is a valid UTF-8 encoded string. Error: '{err!r}'"
        raise RefusedError(400, "BAD_REQUEST", message) from err
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as err:
        # MLflow's reader lets some of these through as a 500; the body is still what is wrong.
        raise RefusedError(400, "BAD_REQUEST", f"Invalid input. Error: '{err!r}'") from err


def encode(raw_predictions: Any, *, unwrapped: bool) -> bytes:
    """The answer's bytes, as MLflow writes them.

    Raises:
        TypeError, ValueError: the model answered something that JSON can't carry.
    """
    out = StringIO()
    if unwrapped:
        scoring_server.unwrapped_predictions_to_json(raw_predictions, out)
    else:
        scoring_server.predictions_to_json(raw_predictions, out)
    return out.getvalue().encode()


def canonical(body: Body) -> bytes:
    """The body with keys sorted and spaces gone, so that the same request has the same hash; raw if not JSON."""
    try:
        return json.dumps(json.loads(body.raw), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return body.raw


def input_rows(body: Body) -> list[Any] | None:
    """The rows of a JSON body for the log, one JSON value each; None when they can't be told apart."""
    try:
        content = json.loads(body.raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    split = content.get(scoring_server.DF_SPLIT)
    if isinstance(split, Mapping) and isinstance(split.get("data"), list):
        columns = split.get("columns")
        if columns is None:
            return [_finite(row) for row in split["data"]]
        return [_finite(dict(zip(columns, row, strict=False))) for row in split["data"]]
    for name in (scoring_server.DF_RECORDS, scoring_server.INSTANCES, scoring_server.INPUTS):
        if isinstance(content.get(name), list):
            return [_finite(row) for row in content[name]]
    return None


def _finite(value: Any) -> Any:
    """JSON in PostgreSQL knows no NaN or infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
