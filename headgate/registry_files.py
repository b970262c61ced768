"""Model files of a registered version, fetched by MLflow's own client."""

import logging
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

import yaml

from headgate.errors import BadRequestError, NotFoundError, RegistryUnavailableError
from headgate.settings import set_environment

logger = logging.getLogger(__name__)

MLFLOW_CLIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Minutes of retrying become seconds; 60 s between two bytes is still enough for a large file."""


def has_signature(tracking_uri: str, model: str, version: str) -> bool:
    """True if the version's MLmodel file holds a signature with inputs.

    Raises:
        BadRequestError: it has no readable MLmodel file.
        RegistryUnavailableError: the file can't be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="headgate-") as folder:
        path = _fetch(tracking_uri, f"models:/{model}/{version}/MLmodel", Path(folder))
        try:
            described = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as err:
            raise BadRequestError(
                "version", f"{model} {version}", f"have a readable MLmodel file: {err}"
            ) from err
    signature = described.get("signature") if isinstance(described, dict) else None
    return isinstance(signature, dict) and bool(signature.get("inputs"))


def model_folder(tracking_uri: str, model: str, version: str, created: object, folder: Path) -> Path:
    """Where the version's files are, fetched if they are not there yet.

    Args:
        created: the version's creation time as MLflow tells it, part of the folder's name, because a deleted and newly
            made model counts its versions from 1 again; None = MLflow is away, the newest there is good.
    """
    # MLflow decodes a % in a local path, so it can't stand in one.
    home = folder / quote(model, safe="").replace("%", "=")
    if created is None:
        known = sorted(home.glob(f"{version}-*"))
        if not known:
            raise RegistryUnavailableError(tracking_uri, f"{model} {version} was never fetched to {home}")
        return known[-1]
    place = home / f"{version}-{created}"
    if place.exists():
        return place
    home.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".fetching-", dir=home))
    try:
        fetched = _fetch(tracking_uri, f"models:/{model}/{version}", fresh)
        fetched.rename(place)
    except OSError:
        # Another process of ours was quicker.
        if not place.exists():
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return place


def _fetch(tracking_uri: str, uri: str, folder: Path) -> Path:
    set_environment(MLFLOW_CLIENT, override=False)
    # Here, not on top: it takes seconds.
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    # For `models:/` addresses MLflow looks at the process's registry, whatever it is given below.
    if mlflow.get_registry_uri() != tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
        mlflow.set_registry_uri(tracking_uri)
    target = folder / "files"
    target.mkdir()
    try:
        found = mlflow.artifacts.download_artifacts(
            artifact_uri=uri, dst_path=str(target), tracking_uri=tracking_uri, registry_uri=tracking_uri
        )
    except MlflowException as err:
        # A file missing behind MLflow's artifact proxy comes as INTERNAL_ERROR with the server's answer in its text.
        if err.error_code == "RESOURCE_DOES_NOT_EXIST" or "404 Client Error" in err.message:
            raise NotFoundError("model files", uri, "were they deleted from the artifact store?") from err
        raise RegistryUnavailableError(tracking_uri, f"{uri}: {err.message:.200}") from err
    except (RequestException, OSError) as err:
        raise RegistryUnavailableError(tracking_uri, f"{uri}: {type(err).__name__}: {err}") from err
    return Path(found)
