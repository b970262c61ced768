"""What boto3 raises, in headgate's words: away, refused, or not there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from headgate.errors import ArtifactsUnavailableError, BadRequestError, NotFoundError

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_CREDENTIALS = frozenset(
    {
        "403",
        "AccessDenied",
        "AllAccessDisabled",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_REFUSED = frozenset(
    {"EntityTooLarge", "InvalidArgument", "InvalidRequest", "KeyTooLongError", "MetadataTooLarge"}
)
"""What would be refused again: no use in waiting."""
CREDENTIALS = (
    "check the credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role, and "
    "that they may list, read and write there"
)
NO_BUCKET = "create the bucket, or correct HEADGATE_ARTIFACTS"
AWAY = "check that it runs and HEADGATE_S3_ENDPOINT is right; headgate tries again by itself"


@contextmanager
def translated(place: str, bucket: str, key: str | None) -> Iterator[None]:
    """Turn what boto3 raises inside into our errors.

    Args:
        place: what messages call it.
        bucket: its name. key: what was asked for; None = the bucket itself.

    Raises:
        NotFoundError: the bucket is there, the object is not.
        BadRequestError: S3 will never take the object.
        ArtifactsUnavailableError: everything else.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

    try:
        yield
    except ClientError as err:
        raise _answered(place, bucket, key, err.response) from err
    except (BotoCoreError, HTTPClientError, Boto3Error) as err:
        raise ArtifactsUnavailableError(place, _cause(err), _hint(err)) from err
    except OSError as err:  # urllib3's, while an answer's body is read.
        raise ArtifactsUnavailableError(place, f"{type(err).__name__}: {err}", AWAY) from err


def _answered(place: str, bucket: str, key: str | None, response: Mapping[str, Any]) -> Exception:
    error = response.get("Error", {})
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    cause = f"S3 answered {status} {code}" + (f": {message}" if message and message != code else "")
    if code == "NoSuchBucket" or (key is None and code in _MISSING):
        return ArtifactsUnavailableError(place, f"there is no bucket {bucket}", NO_BUCKET)
    if code in _MISSING:
        return NotFoundError("artifact", key or bucket, "see `headgate artifacts list`")
    if code in _CREDENTIALS or status in (401, 403):
        return ArtifactsUnavailableError(place, cause, CREDENTIALS)
    if code in _REFUSED:
        return BadRequestError("artifact", key, f"be as S3 takes it: {cause}")
    return ArtifactsUnavailableError(place, cause, AWAY)


def _hint(error: Exception) -> str:
    from botocore.exceptions import (
        CredentialRetrievalError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    missing = (NoCredentialsError, PartialCredentialsError, ProfileNotFound, CredentialRetrievalError)
    return CREDENTIALS if isinstance(error, missing) else AWAY


def _cause(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
