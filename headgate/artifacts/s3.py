"""Artifacts in a bucket of S3, Amazon's or another's, through boto3."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headgate.artifacts.hashing import check_sha256, check_source, pieces, sha256_of
from headgate.artifacts.keys import check_key, check_prefix
from headgate.artifacts.port import BINARY, Entry, Stored
from headgate.artifacts.s3_errors import translated
from headgate.errors import ConfigError, NotFoundError

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 3, 10, 2
PART_BYTES = 8 * 1024 * 1024
"""Files larger than this are sent in parts of this size, each tried again by itself."""
SENDERS = 4
"""Parts sent at once, each read from the file as it goes."""
STALE = timedelta(days=1)
_SHA256 = "sha256"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class S3Artifacts:
    """Objects below a prefix of a bucket; their SHA-256 is in their metadata.

    Credentials and region come from boto3's usual chain: `AWS_*` variables, `~/.aws`, a role of the machine.

    Args:
        bucket: its name; it must exist. prefix: what all keys begin with; may be empty.
        endpoint: `http(s)://…` of an S3 that is not Amazon's; buckets are then named in the path.
    """

    def __init__(self, bucket: str, prefix: str = "", endpoint: str | None = None) -> None:
        self.bucket = bucket
        self.prefix = check_key(prefix.strip("/")) + "/" if prefix.strip("/") else ""
        self.endpoint = endpoint
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def place(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def client(self) -> Any:
        """boto3's client, made when first used: it may look for credentials over the network."""
        with self._lock:
            if self._client is None:
                self._client = self._connected()
            return self._client

    def _connected(self) -> Any:
        import boto3
        from botocore.config import Config

        own = self.endpoint is not None
        # Others than Amazon often do not know the newer checksums; our own SHA-256 is kept either way.
        checksums = "when_required" if own else "when_supported"
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            s3={"addressing_style": "path" if own else "auto"},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
            user_agent_extra="headgate",
            # A proxy of the environment is not meant for a server on this machine.
            proxies={} if own and urlsplit(self.endpoint).hostname in _LOOPBACK else None,
        )
        session = boto3.session.Session()
        region = session.region_name or "us-east-1"
        try:
            return session.client("s3", endpoint_url=self.endpoint, config=config, region_name=region)
        except ValueError as err:
            raise ConfigError(
                "HEADGATE_S3_ENDPOINT", self.endpoint, f"be an http:// or https:// address: {err}"
            ) from err

    def put(self, key: str, data: bytes | Path, content_type: str = BINARY) -> Stored:
        """As `Artifacts.put`; S3 shows an object once all its parts are there."""
        name = self._name(key)
        check_source(data)
        digest, size = sha256_of(data)
        about = {"ContentType": content_type, "Metadata": {_SHA256: digest}}
        with self._translated(key):
            if isinstance(data, bytes):
                self.client.put_object(Bucket=self.bucket, Key=name, Body=data, **about)
            else:
                self._send(name, data, about)
        return Stored(key, size, digest, self.url(key))

    def _send(self, name: str, file: Path, about: dict[str, Any]) -> None:
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        parts = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=SENDERS
        )
        # Not `client.upload_file`, whose error no longer says what S3 answered.
        with create_transfer_manager(self.client, parts) as manager:
            manager.upload(str(file), self.bucket, name, extra_args=about).result()

    def get(self, key: str) -> bytes:
        """As `Artifacts.get`."""
        with self._translated(key):
            answer = self.client.get_object(Bucket=self.bucket, Key=self._name(key))
            data: bytes = answer["Body"].read()
        check_sha256(key, answer["Metadata"].get(_SHA256), sha256_of(data)[0])
        return data

    def fetch(self, key: str, to: Path) -> Stored:
        """As `Artifacts.fetch`."""
        part = to.with_name(f"{to.name}.{uuid.uuid4().hex}.part")
        try:
            with self._translated(key):
                answer = self.client.get_object(Bucket=self.bucket, Key=self._name(key))
                with part.open("wb") as copy:
                    copy.writelines(pieces(answer["Body"]))
            digest, size = sha256_of(part)
            check_sha256(key, answer["Metadata"].get(_SHA256), digest)
            part.replace(to)
        finally:
            part.unlink(missing_ok=True)
        return Stored(key, size, digest, self.url(key))

    def stat(self, key: str) -> Stored | None:
        """As `Artifacts.stat`."""
        try:
            with self._translated(key):
                facts = self.client.head_object(Bucket=self.bucket, Key=self._name(key))
        except NotFoundError:
            # The answer to HEAD is the same for a missing bucket.
            with self._translated():
                self.client.head_bucket(Bucket=self.bucket)
            return None
        return Stored(key, facts["ContentLength"], facts["Metadata"].get(_SHA256, ""), self.url(key))

    def exists(self, key: str) -> bool:
        """As `Artifacts.exists`."""
        return self.stat(key) is not None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """As `Artifacts.list`; asks for the next thousand when they are wanted."""
        check_prefix(prefix)
        token: dict[str, str] = {}
        while True:
            with self._translated():
                page = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.prefix + prefix, **token)
            for one in page.get("Contents", ()):
                yield Entry(one["Key"][len(self.prefix) :], one["Size"], one["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        """As `Artifacts.delete`."""
        with self._translated():
            self.client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def url(self, key: str) -> str:
        """`s3://bucket/prefix/key`."""
        return f"s3://{self.bucket}/{self._name(key)}"

    def tidy(self) -> int:
        """As `Artifacts.tidy`: parts of uploads that nobody ended cost money and are shown nowhere."""
        before, gone = datetime.now(UTC) - STALE, 0
        with self._translated():
            found = self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=self.prefix)
            for upload in found.get("Uploads", ()):
                if upload["Initiated"] < before:
                    self.client.abort_multipart_upload(
                        Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
                    gone += 1
        return gone

    def close(self) -> None:
        """As `Artifacts.close`."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    @contextmanager
    def _translated(self, key: str | None = None) -> Iterator[None]:
        shown = self.place if self.endpoint is None else f"{self.place} ({self.endpoint})"
        with translated(shown, self.bucket, key):
            yield
