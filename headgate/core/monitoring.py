"""What is watched after a release, and what may happen by itself: drift, the daily figures, retraining. One YAML a model."""

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from headgate.core.spec import Count, Number, PositiveDuration, SpecModel

Mode = Literal["collect", "alert", "approve", "automatic"]
"""`collect`: figures only. `alert`: drift is judged and told. `approve`: it also proposes retrainings, each of which a
person must allow. `automatic`: allowed by itself, but never while drift is critical."""
MODES: tuple[Mode, ...] = ("collect", "alert", "approve", "automatic")
AUTO_RETRAIN_FLAG = "ENABLE_AUTO_RETRAIN"
"""Off by default; while it is off nothing retrains by itself, whatever the mode (AR-04). `ENABLE_AUTO_RETRAIN:tenant` is
one tenant's own, which must be on as well once it has been set."""


class DriftSpec(SpecModel):
    """What counts as drift. Shares are 0-1."""

    baseline_from: Count = Field(60, ge=2, le=365)
    baseline_to: Count = Field(30, ge=1, le=364)
    """The baseline is the days that began so many days before the judged one (S4:121); younger ones while there are none."""
    min_history: Count = Field(7, ge=2, le=90)
    """Days with data that must be there first (S4:55)."""
    min_rows: Count = Field(500, ge=30)
    """Rows that the judged window needs; it reaches back up to 7 days for them."""
    alpha: Number = Field(0.01, gt=0, le=0.5)
    """False discovery rate over a model's columns, per day (Benjamini and Hochberg 1995)."""
    min_effect: Number = Field(0.1, gt=0, le=1)
    """Smallest Kolmogorov distance (or share of a category's answers) that matters."""
    min_accuracy_drop: Number = Field(0.02, gt=0, le=1)
    critical_accuracy_drop: Number = Field(0.1, gt=0, le=1)
    ignore: tuple[str, ...] = ()
    """Columns that are not judged: clocks, counters."""

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if self.baseline_from <= self.baseline_to:
            raise ValueError(
                f"baselineFrom {self.baseline_from} is not before baselineTo {self.baseline_to}; both count days back"
            )
        if self.critical_accuracy_drop < self.min_accuracy_drop:
            raise ValueError("criticalAccuracyDrop is below minAccuracyDrop")
        return self


class MetricsSpec(SpecModel):
    """What `collect_metrics` writes down besides the standard figures."""

    positive_label: str | None = None
    """The class that PR-AUC and the Brier score are about; None = the rarer of two."""
    business: dict[str, str] = Field(default_factory=dict, max_length=20)
    """Name -> `share:<prediction>` (e.g. approval_rate: share:approved) or `mean:<column>` of the logged inputs."""
    fairness: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field((), max_length=8)
    """Input columns by whose values figures are told apart."""


class ValidationSpec(SpecModel):
    """What a retrained version must show on the newest labelled rows, which it was not trained on, to become a challenger."""

    min_pr_auc: Number = Field(0.70, ge=0, le=1)
    min_accuracy: Number = Field(0, ge=0, le=1)
    margin: Number = Field(0.02, gt=0, lt=1)
    """How much less often than the champion it may be right (points of accuracy, 0-1)."""
    alpha: Number = Field(0.05, gt=0, le=0.5)
    max_calibration_error: Number = Field(0.15, gt=0, le=1)
    slices: tuple[Annotated[str, Field(min_length=1, max_length=100)], ...] = Field((), max_length=8)
    max_slice_drop: Number = Field(0.1, gt=0, le=1)
    max_size_mb: Number = Field(500, gt=0)
    max_latency_ratio: Number = Field(3, gt=0)
    """Its median time for one row over the champion's."""
    min_rows: Count = Field(200, ge=20)
    holdout: Number = Field(0.2, gt=0, lt=1)
    """The newest part of the labelled rows, kept for this."""


class TrainerSpec(SpecModel):
    """The user's own training: a command or a Python callable (docs/retraining.md)."""

    command: tuple[str, ...] | None = Field(None, min_length=1)
    callable: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    parameters: dict[str, Any] = Field(default_factory=dict)
    timeout: PositiveDuration = timedelta(hours=2)
    memory_mb: Count | None = Field(None, ge=64)

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.command is None) == (self.callable is None):
            raise ValueError(
                "a trainer is either a `command` (a list) or a `callable` (package.module:function)"
            )
        return self


class RetrainSpec(SpecModel):
    """When and how a model is trained again."""

    trainer: TrainerSpec | None = None
    confirm_days: Count = Field(7, ge=1, le=60)
    """Days in a row on which drift must be seen before it is acted on, unless it is critical (S4:122, C18)."""
    cooldown: PositiveDuration = timedelta(days=7)
    """From the end of one retraining to the start of the next that nobody asked for."""
    every: PositiveDuration | None = None
    """Retrain on a schedule too."""
    train_on: PositiveDuration = timedelta(days=90)
    """How far back the training data reach."""
    earlier: int = Field(5, ge=0, le=10)
    """Former champions, the newest first, that are tried once a week on the newest labelled rows: one that is proven better
    than the champion there is offered to the gates again, without training. 0 = none. In mode `automatic` only."""
    approval_timeout: PositiveDuration = timedelta(hours=24)
    """After this without an answer nothing changes."""
    pilot_tenants: tuple[str, ...] = ()
    """Tenants that come first, or `tenant/model` where each has a model of its own; empty = no pilot. The others follow
    `pilot_days` after a pilot's promotion that nobody took back."""
    pilot_days: Count = Field(14, ge=1, le=365)
    min_watch: PositiveDuration = timedelta(hours=24)
    """The shortest watch after promotion that the model's rollout spec may have (AR-03); a shorter one must be meant, here."""
    min_rows: Count = Field(500, ge=20)
    """Labelled rows outside quarantine that training needs; with fewer it is refused."""


class MonitoringSpec(SpecModel):
    """How one model of one tenant is watched and retrained."""

    model: str = Field(min_length=1, max_length=255)
    tenant: str = Field("default", min_length=1, max_length=100)
    mode: Mode = "alert"
    drift: DriftSpec = DriftSpec()
    metrics: MetricsSpec = MetricsSpec()
    validation: ValidationSpec = ValidationSpec()
    retrain: RetrainSpec = RetrainSpec()

    @model_validator(mode="after")
    def _can_retrain(self) -> Self:
        if self.mode in ("approve", "automatic") and self.retrain.trainer is None:
            raise ValueError(f"mode {self.mode} needs retrain.trainer: the command or callable that trains")
        return self
