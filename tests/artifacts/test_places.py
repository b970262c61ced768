"""What a folder and a bucket promise alike."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.artifacts import Artifacts, FolderArtifacts, S3Artifacts, key_part, place_of
from headgate.artifacts.s3 import PART_BYTES
from headgate.errors import (
    ArtifactsUnavailableError,
    ArtifactTamperedError,
    BadRequestError,
    ConfigError,
    NotFoundError,
)

BAD_KEYS = (
    "",
    "/etc/passwd",
    "../secret",
    "a/../b",
    "a/./b",
    "a//b",
    "a/",
    ".hidden",
    "a/.headgate/x",
    "a\\b",
    "a b",
    "a\x00b",
    "ä",
    "x" * 201,
    "/".join(["x" * 100] * 9),
)


def test_what_was_put_is_got_back_with_its_sum(place: Artifacts, tmp_path: Path) -> None:
    data = b"<html>drift</html>"
    stored = place.put("reports/fraud/1.html", data, "text/html")
    fetched = place.fetch("reports/fraud/1.html", tmp_path / "1.html")

    assert place.get("reports/fraud/1.html") == data
    assert (tmp_path / "1.html").read_bytes() == data
    assert (stored.bytes, len(stored.sha256), stored.waiting) == (len(data), 64, False)
    assert fetched == stored == place.stat("reports/fraud/1.html")
    assert stored.url == f"{place.place}/reports/fraud/1.html"


def test_an_object_is_replaced_whole_and_the_same_one_twice_is_one(place: Artifacts) -> None:
    place.put("a/b", b"first, and longer")
    place.put("a/b", b"second")
    place.put("a/b", b"second")

    assert place.get("a/b") == b"second"
    assert [(entry.key, entry.bytes) for entry in place.list()] == [("a/b", 6)]


def test_a_list_shows_what_begins_so_in_order(place: Artifacts) -> None:
    for key in ("b/2", "a/1", "ab/3", "a/10", "c"):
        place.put(key, key.encode())
    listed = [(prefix, [entry.key for entry in place.list(prefix)]) for prefix in ("", "a", "a/", "a/1", "z")]

    assert listed == [
        ("", ["a/1", "a/10", "ab/3", "b/2", "c"]),
        ("a", ["a/1", "a/10", "ab/3"]),
        ("a/", ["a/1", "a/10"]),
        ("a/1", ["a/1", "a/10"]),
        ("z", []),
    ]
    assert all(entry.at.tzinfo is not None and not entry.waiting for entry in place.list())


def test_what_is_not_there_is_not_found(place: Artifacts, tmp_path: Path) -> None:
    place.put("there", b"x")
    place.delete("gone")

    assert not place.exists("gone")
    assert place.stat("gone") is None
    with pytest.raises(NotFoundError, match="gone"):
        place.get("gone")
    with pytest.raises(NotFoundError):
        place.fetch("gone", tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


def test_an_empty_place_has_nothing_in_it(place: Artifacts) -> None:
    assert list(place.list()) == []
    assert not place.exists("a")


def test_what_was_deleted_is_gone(place: Artifacts) -> None:
    place.put("a", b"x")
    place.delete("a")

    assert not place.exists("a")
    assert list(place.list()) == []


def test_a_key_that_could_lead_elsewhere_is_refused(place: Artifacts, tmp_path: Path) -> None:
    for key in BAD_KEYS:
        for ask in (place.get, place.exists, place.delete, place.url):
            with pytest.raises(BadRequestError):
                ask(key)
        with pytest.raises(BadRequestError):
            place.put(key, b"x")
        with pytest.raises(BadRequestError):
            place.fetch(key, tmp_path / "copy")


def test_any_name_can_be_one_part_of_a_key(place: Artifacts) -> None:
    names = [
        "fraud",
        "fraud/eu",
        "..",
        ".x",
        "",
        "Überweisung",
        "a b",
        "x" * 300,
        "x" * 301,
        "registry:m",
        "~",
    ]
    parts = [key_part(name) for name in names]
    for name, part in zip(names, parts, strict=True):
        place.put(f"archive/{part}", name.encode())

    assert len(set(parts)) == len(names)
    assert [place.get(f"archive/{part}").decode() for part in parts] == names


def test_a_changed_byte_is_an_error_and_nothing_is_read(place: Artifacts, tmp_path: Path) -> None:
    place.put("evidence/1.json", b'{"risk": 0.9}')
    change(place, "evidence/1.json", b'{"risk": 0.1}')

    with pytest.raises(ArtifactTamperedError, match=r"evidence/1\.json"):
        place.get("evidence/1.json")
    with pytest.raises(ArtifactTamperedError) as caught:
        place.fetch("evidence/1.json", tmp_path / "copy")
    assert list(tmp_path.glob("copy*")) == []
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_an_object_that_nobody_put_is_not_trusted(place: Artifacts) -> None:
    place.put("a", b"x")
    if isinstance(place, FolderArtifacts):
        (place.root / "b").write_bytes(b"y")
    elif isinstance(place, S3Artifacts):
        place.client.put_object(Bucket=place.bucket, Key=f"{place.prefix}b", Body=b"y")

    with pytest.raises(ArtifactTamperedError):
        place.get("b")


def change(place: Artifacts, key: str, data: bytes) -> None:
    """Change an object's bytes behind its place's back, and leave what is kept about it."""
    if isinstance(place, FolderArtifacts):
        (place.root / key).write_bytes(data)
    elif isinstance(place, S3Artifacts):
        name = f"{place.prefix}{key}"
        kept = place.client.head_object(Bucket=place.bucket, Key=name)["Metadata"]
        place.client.put_object(Bucket=place.bucket, Key=name, Body=data, Metadata=kept)


def test_a_large_file_goes_in_parts_and_memory_stays_flat(place: Artifacts, tmp_path: Path) -> None:
    source, size = tmp_path / "day.parquet", 3 * PART_BYTES + 17
    with source.open("wb") as sink:
        for start in range(0, size, 1 << 20):
            sink.write(os.urandom(1) * min(1 << 20, size - start))
    place.put("warm", b"up")
    tracemalloc.start()
    stored = place.put("archive/day.parquet", source)
    place.fetch("archive/day.parquet", tmp_path / "back")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert stored.bytes == size
    assert peak < 2 * PART_BYTES


def test_a_file_that_is_not_there_is_said_and_no_outage(place: Artifacts, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        place.put("a", tmp_path / "nothing")
    assert not place.exists("a")


def test_two_writers_of_one_key_leave_one_whole_object(place: Artifacts) -> None:
    bodies = [bytes([letter]) * 20_000 for letter in b"ab"]
    threads = [
        threading.Thread(target=lambda body=body: [place.put("k", body) for _ in range(10)])
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert place.get("k") in bodies


KILLED = """
import sys
from pathlib import Path
from headgate.artifacts import place_of
place = place_of(sys.argv[1], sys.argv[2] or None)
print("going", flush=True)
while True:
    place.put("archive/day", Path(sys.argv[3]))
"""


def test_a_writer_killed_in_the_middle_leaves_the_old_object_or_the_new_one(
    place: Artifacts, tmp_path: Path
) -> None:
    """Point 4: kill -9 in mid-put."""
    new = tmp_path / "new"
    new.write_bytes(b"n" * (2 * PART_BYTES + 1))
    place.put("archive/day", b"old")
    address, endpoint = (
        (str(place.root), "") if isinstance(place, FolderArtifacts) else (place.place, place.endpoint or "")  # type: ignore[attr-defined]
    )
    for wait_s in (0.02, 0.2):
        command = [sys.executable, "-c", KILLED, address, endpoint, str(new)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert writer.stdout is not None
        assert writer.stdout.readline()
        threading.Event().wait(wait_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()

        assert place.get("archive/day") in (b"old", new.read_bytes())
        assert [entry.key for entry in place.list()] == ["archive/day"]


def test_what_dead_writers_left_is_taken_away_after_a_day(
    place: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put("a", b"x")
    if isinstance(place, FolderArtifacts):
        left = place.root / ".headgate" / "incoming" / "left"
        left.write_bytes(b"half")
        young = place.tidy()
        os.utime(left, (0, 0))
    elif isinstance(place, S3Artifacts):
        place.client.create_multipart_upload(Bucket=place.bucket, Key=f"{place.prefix}left")
        # moto says of every upload that it began in 2010.
        with monkeypatch.context() as patch:
            patch.setattr("headgate.artifacts.s3.STALE", timedelta(days=20_000))
            young = place.tidy()

    assert (young, place.tidy(), place.tidy()) == (0, 1, 0)
    assert place.get("a") == b"x"


def test_a_bucket_may_hold_thousands(new_bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = new_bucket()
    for number in range(7):
        bucket.put(f"n/{number}", b"x")
    plain = bucket.client.list_objects_v2
    monkeypatch.setattr(bucket.client, "list_objects_v2", lambda **asked: plain(MaxKeys=3, **asked))

    assert [entry.key for entry in bucket.list()] == [f"n/{number}" for number in range(7)]


def test_a_missing_bucket_is_said_and_never_an_empty_one(new_bucket: Any) -> None:
    there = new_bucket()
    missing = S3Artifacts("no-such-bucket", endpoint=there.endpoint)
    for ask in (
        lambda: missing.put("a", b"x"),
        lambda: missing.get("a"),
        lambda: missing.exists("a"),
        lambda: list(missing.list()),
    ):
        with pytest.raises(
            ArtifactsUnavailableError, match=r"there is no bucket no-such-bucket.*HEADGATE_ARTIFACTS"
        ):
            ask()


def test_without_credentials_the_variables_are_named(
    new_bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = new_bucket()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    blind = S3Artifacts(there.bucket, endpoint=there.endpoint)

    with pytest.raises(ArtifactsUnavailableError, match="AWS_ACCESS_KEY_ID"):
        blind.put("a", b"x")


def test_a_folder_that_is_none_is_away(tmp_path: Path) -> None:
    place = FolderArtifacts(tmp_path / "artifacts")
    place.put("a", b"x")
    place.root.rename(tmp_path / "moved")
    place.root.write_bytes(b"not a folder")

    for ask in (lambda: place.put("a", b"y"), lambda: place.get("a"), lambda: list(place.list())):
        with pytest.raises(ArtifactsUnavailableError):
            ask()


def test_a_key_below_an_object_is_refused_by_a_folder(tmp_path: Path) -> None:
    place = FolderArtifacts(tmp_path)
    place.put("a", b"x")
    place.put("b/c", b"x")

    for key in ("a/b", "b"):
        with pytest.raises(BadRequestError):
            place.put(key, b"x")


@pytest.mark.parametrize(
    "address", ["http://host/x", "s3://", "s3:///prefix", "gs://bucket/x", "s3://bucket/../x"]
)
def test_an_address_that_is_neither_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="HEADGATE_ARTIFACTS"):
        place_of(address)
