"""Training data, cut from the prediction log and its labels: the newest part kept apart, what it holds written beside it.

Which version answered does not matter for learning: the label is what turned out to be true, not what was answered. So
rows of a challenger that was rolled back are as good as the champion's, and leaving them out would skew the sample.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from headgate.core.monitoring import MonitoringSpec
from headgate.store.labelled_rows import LabelledRow
from headgate.store.store import Store
from headgate.training.columns import (
    Kind,
)
from headgate.training.days import Days, read_days
from headgate.training.problems import TooFewLabelsError
from headgate.training.signature import read_signature
from headgate.training.staging import Staged, choose, stage
from headgate.training.writing import write_parts

if TYPE_CHECKING:
    from headgate.artifacts import Artifacts

MOST_ROWS = 1_000_000
"""More rows than this are sampled, by request."""
MANIFEST, TRAIN, HOLDOUT, SIGNATURE = "manifest.json", "train.parquet", "holdout.parquet", "signature.json"


class Quarantined(Protocol):
    """Days of UTC whose rows a broken pipeline wrote, both ends included."""

    @property
    def first(self) -> date:
        """The first of them."""
        ...

    @property
    def last(self) -> date:
        """The last."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Two Parquet files and what they hold.

    Attributes:
        train: in a folder of its own with `manifest.json`, all that the trainer sees. holdout: elsewhere.
        rows, holdout_rows: in each. first, last: times of the oldest and the newest training row.
        sha256, holdout_sha256: of the content, the same for the same rows in any order.
        columns: input -> its kind. label: the label's column. manifest: everything, as written beside it.
    """

    train: Path
    holdout: Path
    rows: int
    holdout_rows: int
    first: datetime
    last: datetime
    sha256: str
    holdout_sha256: str
    columns: Mapping[str, Kind]
    label: str
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def folder(self) -> Path:
        """What the trainer gets."""
        return self.train.parent

    @classmethod
    def load(cls, folder: Path) -> "TrainingData | None":
        """What `cut` left in this folder; None when it did not finish there."""
        train = folder / "data" / TRAIN
        try:
            manifest = json.loads((folder / "data" / MANIFEST).read_text())
        except FileNotFoundError:
            return None
        side = manifest["train"], manifest["holdout"]
        return cls(
            train=train,
            holdout=folder / "holdout" / HOLDOUT,
            rows=side[0]["rows"],
            holdout_rows=side[1]["rows"],
            first=datetime.fromisoformat(side[0]["first"]),
            last=datetime.fromisoformat(side[0]["last"]),
            sha256=side[0]["sha256"],
            holdout_sha256=side[1]["sha256"],
            columns=manifest["columns"],
            label=manifest["label"],
            manifest=manifest,
        )


def cut(  # noqa: PLR0913 - where everything stands that a cut depends on
    store: Store,
    archive: "Artifacts | None",
    spec: MonitoringSpec,
    model: str,
    tenant: str,
    now: datetime,
    quarantines: Sequence[Quarantined],
    folder: Path,
    *,
    champion: Path | None = None,
) -> TrainingData:
    """Write `data/train.parquet`, `data/manifest.json` and `holdout/holdout.parquet`; again in the same folder = the same.

    Args:
        archive: where days are read that left the log; None = nowhere.
        now: rows and labels from then on are not known yet.
        quarantines: their days are left out. champion: a model folder; its signature says which columns there are and of
            which kind, and is written beside the data as `signature.json`. None = the log's values say it.

    Raises:
        TooFewLabelsError: too few rows, none with a label, or only one label.
        StoreUnavailableError, ArtifactsUnavailableError: PostgreSQL or the archive can't be reached; call again.
    """
    if (done := TrainingData.load(folder)) is not None:
        return done
    signature = read_signature(champion) if champion is not None else None
    days = read_days(store, archive, tenant, model, now, spec.retrain.train_on, _dates(quarantines))
    _refuse_none(spec, days, model, tenant)
    shutil.rmtree(folder / "data", ignore_errors=True)
    shutil.rmtree(folder / "holdout", ignore_errors=True)
    for part in ("data", "holdout"):
        (folder / part).mkdir(parents=True)
    staged = stage(folder / "staged.parquet", _rows(days))
    try:
        chosen = choose(staged, spec.validation.holdout, MOST_ROWS)
        _refuse_few(spec, staged, int(chosen.keep.sum()), model, tenant)
        manifest = write_parts(
            (folder / "data" / TRAIN, folder / "holdout" / HOLDOUT), staged, chosen, signature
        )
    finally:
        staged.path.unlink(missing_ok=True)
    _refuse_one_class(manifest, model, tenant)
    about = {"tenant": tenant, "model": model, "cut_at": now.isoformat(), "days": days.to_json()}
    if signature is not None:
        (folder / "data" / SIGNATURE).write_text(json.dumps(signature.told))
    # Last, because a manifest says that all is there.
    half = folder / "data" / "manifest.half"
    half.write_text(json.dumps(about | manifest, indent=1))
    half.rename(folder / "data" / MANIFEST)
    found = TrainingData.load(folder)
    assert found is not None  # noqa: S101 - written above
    return found


def _dates(quarantines: Sequence[Quarantined]) -> frozenset[date]:
    return frozenset(
        one.first + timedelta(days=offset)
        for one in quarantines
        for offset in range((one.last - one.first).days + 1)
    )


def _rows(days: Days) -> Iterator[list[LabelledRow]]:
    for day in days.used:
        yield from days.read(day)


def _refuse_none(spec: MonitoringSpec, days: Days, model: str, tenant: str) -> None:
    if not days.served:
        reach = f"{spec.retrain.train_on.days} days"
        raise TooFewLabelsError(
            model, tenant, f"the log holds no answer of the last {reach}", "check that traffic is logged"
        )
    if not days.labelled:
        raise TooFewLabelsError(
            model,
            tenant,
            f"none of {days.served} answers has a label",
            "send what turned out to be true (`headgate outcomes`, POST /outcomes)",
        )
    if not days.used:
        told = ", ".join(f"{day:%Y-%m-%d}" for day in days.quarantined[:10])
        raise TooFewLabelsError(
            model,
            tenant,
            f"all {days.labelled} labelled answers are of quarantined days ({told})",
            "wait for sound days, or lift the quarantine",
        )


def _refuse_few(spec: MonitoringSpec, staged: Staged, rows: int, model: str, tenant: str) -> None:
    share, needed = spec.validation.holdout, spec.validation.min_rows
    need = math.ceil(max(needed / share, needed / (1 - share)) - 1e-6)
    if rows >= need:
        return
    dropped = f" ({staged.without_inputs} more were too large for their inputs to be logged)"
    problem = f"{rows} labelled answers can be used{dropped if staged.without_inputs else ''}"
    raise TooFewLabelsError(
        model,
        tenant,
        f"{problem}; {need} are needed for {needed} in either part at holdout {share:g}",
        "wait for more labels, let retrain.trainOn reach further back, or lower validation.minRows",
    )


def _refuse_one_class(manifest: Mapping[str, Any], model: str, tenant: str) -> None:
    if not manifest["train"]["rows"]:
        told = "all labelled answers were given at one moment, so none is older than the holdout"
        raise TooFewLabelsError(model, tenant, told, "wait for answers of other times")
    for side in ("train", "holdout"):
        labels = manifest[side]["labels"]
        if len(labels) < 2:
            part = "oldest" if side == "train" else "newest"
            told = f"the {part} {manifest[side]['rows']} rows, the {side} part, hold only the label {', '.join(labels)!r}"
            raise TooFewLabelsError(
                model, tenant, told, "wait for labels of another kind, or change validation.holdout"
            )
