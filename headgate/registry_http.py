"""MLflow's REST API for the registry: short timeouts, its error codes as our errors."""

from typing import Any
from urllib.parse import urlsplit

import httpx

from headgate.errors import (
    BadRequestError,
    ConfigError,
    HeadgateError,
    NotFoundError,
    RegistryUnavailableError,
)
from headgate.settings import mlflow_credentials

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# uvicorn closes idle connections after 5 s; a shorter life here means never writing into a closing one.
_KEEPALIVE_S = 2.0


class RegistryHttp:
    """Questions to and orders for one MLflow server."""

    def __init__(self, address: str, *, timeout_s: float) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                "HEADGATE_MLFLOW_URI", parts.scheme or address, "be an http:// or https:// address"
            )
        self.shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        headers, basic = mlflow_credentials()
        local = parts.hostname in _LOOPBACK
        limits = httpx.Limits(max_connections=20, keepalive_expiry=_KEEPALIVE_S)
        self._client = httpx.Client(
            base_url=f"{address}/api/2.0/mlflow/",
            headers=headers,
            auth=basic,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 2.0)),
            # A proxy of the environment is not meant for a server on this machine.
            trust_env=not local,
            transport=httpx.HTTPTransport(limits=limits, retries=1) if local else None,
            limits=limits,
        )

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Ask; asked once more if the connection broke."""
        given = {key: value for key, value in query.items() if value != ""}
        try:
            return self._send("GET", path, params=given)
        except RegistryUnavailableError as err:
            if not isinstance(err.__cause__, httpx.RemoteProtocolError | httpx.ReadError):
                raise
            return self._send("GET", path, params=given)

    # Orders are not repeated: a second attempt could undo somebody's rollback.

    def post(self, path: str, **body: Any) -> None:
        """Order something to be set."""
        self._send("POST", path, json=body)

    def delete(self, path: str, **body: str) -> None:
        """Order something to be gone; gone already is fine."""
        try:
            self._send("DELETE", path, json=body)
        except NotFoundError as err:
            if err.args[0] != "alias":
                raise

    def _send(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            response = self._client.request(method, path, **content)
        except httpx.TransportError as err:
            raise RegistryUnavailableError(self.shown, f"{type(err).__name__}: {err}") from err
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.is_success and isinstance(body, dict):
            return body
        raise self._translate(
            response.status_code, body, {**content.get("params", {}), **content.get("json", {})}
        )

    def _translate(self, status: int, body: object, asked: dict[str, Any]) -> HeadgateError:
        """MLflow's answer as our error.

        A missing model or version is RESOURCE_DOES_NOT_EXIST, an unset alias or a malformed name INVALID_PARAMETER_VALUE;
        anything without such a code is an outage or another kind of server.
        """
        code = body.get("error_code") if isinstance(body, dict) else None
        message = str(body.get("message", "")) if isinstance(body, dict) else ""
        if status in (401, 403):
            return ConfigError(
                "MLFLOW_TRACKING_USERNAME/PASSWORD/TOKEN", "<hidden>", f"be accepted by {self.shown}"
            )
        if code == "RESOURCE_DOES_NOT_EXIST":
            if "version" in asked:
                return NotFoundError("version", f"{asked.get('name')} {asked['version']}", message)
            return NotFoundError("model", str(asked.get("name")), "register it in MLflow first")
        if code == "INVALID_PARAMETER_VALUE":
            if "alias" in asked and "version" not in asked:
                return NotFoundError("alias", f"{asked.get('name')}@{asked['alias']}", message)
            return BadRequestError("registry request", asked, f"be accepted by MLflow: {message}")
        return RegistryUnavailableError(self.shown, f"HTTP {status} {code or 'and no MLflow error code'}")
