"""MLflow's scoring protocol: reading a body and writing an answer with MLflow's own code."""

import json
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
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
    """The caller's fault: the body can't be used. `args` is (status, error code, message, plain, error class)."""

    def __init__(
        self,
        status: int,
        error_code: str,
        message: str,
        plain: bool = False,
        error_class: str | None = None,
    ) -> None:
        super().__init__(status, error_code, message, plain, error_class)

    @property
    def status(self) -> int:
        """The HTTP status to answer with."""
        return int(self.args[0])

    @property
    def message(self) -> str:
        """What is wrong with the body."""
        return str(self.args[2])

    @property
    def headers(self) -> dict[str, str]:
        """What the answer carries besides."""
        return {}

    @property
    def answer(self) -> tuple[bytes, str]:
        """Body and media type of the answer, as MLflow's scoring server writes them."""
        _, error_code, message, plain, error_class = self.args
        if plain:
            return message.encode(), "text/plain"
        return error_json(error_code, message, error_class), "application/json"


class OverloadedError(RefusedError):
    """Nobody's fault: as many requests run and wait as may; the model was not asked. `args` is (who, why)."""

    def __init__(self, who: str, why: str) -> None:
        Exception.__init__(self, who, why)

    @property
    def status(self) -> int:
        """Always 503."""
        return 503

    @property
    def message(self) -> str:
        """Who can't take more, and why."""
        return f"{self.args[0]} can't take more requests now: {self.args[1]}. Ask again in a moment."

    @property
    def headers(self) -> dict[str, str]:
        """When to ask again, in seconds."""
        return {"Retry-After": "1"}

    @property
    def answer(self) -> tuple[bytes, str]:
        """As every refusal."""
        return RefusedError(self.status, "TEMPORARILY_UNAVAILABLE", self.message).answer


def error_json(error_code: str, message: str, error_class: str | None = None) -> bytes:
    """An error as MLflow writes it, with the class and SQL state that it gives to each code."""
    try:
        error = MlflowException(message, error_code=ErrorCode.Value(error_code), error_class=error_class)
    except ValueError:
        return json.dumps({"error_code": error_code, "message": message}).encode()
    return str(error.serialize_as_json()).encode()


def refusal(error: MlflowException) -> RefusedError:
    """MLflow's refusal as ours: its status and text, never its stack trace."""
    status = error.get_http_status_code()
    status = status if 400 <= status < 500 else 400
    return RefusedError(status, error.error_code, error.message, error_class=error.error_class)


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
