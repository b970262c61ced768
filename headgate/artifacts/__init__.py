"""Reports, evidence and archived days: a folder or a bucket of S3, with a waiting room for when it is away."""

from pathlib import Path
from urllib.parse import urlsplit

from headgate.artifacts.folder import FolderArtifacts
from headgate.artifacts.keys import check_key, key_part
from headgate.artifacts.pending import PENDING_MAX_MB, PendingArtifacts, PendingStatus
from headgate.artifacts.port import Artifacts, Entry, Stored
from headgate.artifacts.s3 import S3Artifacts
from headgate.errors import BadRequestError, ConfigError
from headgate.settings import Settings

__all__ = [
    "PENDING_MAX_MB",
    "Artifacts",
    "Entry",
    "FolderArtifacts",
    "PendingArtifacts",
    "PendingStatus",
    "S3Artifacts",
    "Stored",
    "check_key",
    "key_part",
    "open_artifacts",
    "place_of",
]


def open_artifacts(settings: Settings) -> PendingArtifacts:
    """The artifact store that the settings name; nothing is opened yet.

    Raises:
        ConfigError: `HEADGATE_ARTIFACTS` or `HEADGATE_S3_ENDPOINT` can't be used.
    """
    place = place_of(settings.artifacts or str(settings.home / "artifacts"), settings.s3_endpoint)
    return PendingArtifacts(place, settings.home / "pending", settings.pending_max_mb)


def place_of(address: str, endpoint: str | None = None) -> FolderArtifacts | S3Artifacts:
    """A bucket (`s3://bucket/prefix`) or a folder.

    Raises:
        ConfigError: it is neither.
    """
    parts = urlsplit(address)
    if not parts.scheme or "://" not in address:
        return FolderArtifacts(Path(address))
    if parts.scheme != "s3" or not parts.netloc:
        raise ConfigError("HEADGATE_ARTIFACTS", address, "be s3://bucket/prefix or a folder")
    try:
        return S3Artifacts(parts.netloc, parts.path, endpoint)
    except BadRequestError as err:
        raise ConfigError(
            "HEADGATE_ARTIFACTS", address, f"have a prefix that keys may begin with: {err}"
        ) from err
