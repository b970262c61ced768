"""Former champions on the newest labelled rows: what comes back in a market was often learnt once, and need not be trained."""

import hashlib
import logging
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.core.monitoring import MonitoringSpec
from headgate.core.retraining.circumstances import Ask, Circumstances
from headgate.core.retraining.safeguards import judge_safeguards
from headgate.core.retraining.state import Trigger
from headgate.core.validation.better import proven_better
from headgate.errors import HeadgateError, ServiceUnavailableError, StoreUnavailableError
from headgate.retraining.surroundings import look, read_surroundings

if TYPE_CHECKING:
    from headgate.services import Services
    from headgate.training import TrainingData, Validation

logger = logging.getLogger(__name__)
ACTOR = "headgate"
APART = frozenset({"trainer", "confirmation", "cooldown", "validation"})
"""Safeguards of training: nothing is trained here, and the validation is made below."""


@dataclass(frozen=True, slots=True)
class LookedBack:
    """What became of one model. `version` is offered to the gates; None = none is."""

    tenant: str
    model: str
    sentence: str
    version: str | None = None


def look_back(
    services: "Services",
    now: datetime | None = None,
    *,
    model: str | None = None,
    tenant: str | None = None,
) -> list[LookedBack]:
    """Offer a former champion as challenger wherever one is proven better than the champion; it passes the same gates.

    Only models in mode `automatic`, with the flag on and nothing under way. One that breaks does not hold back the others.

    Args:
        services: the connected parts.
        now: the time that is judged by; None = the clock's.
        model, tenant: only these; None = all that have a monitoring spec.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    at = now or datetime.now(UTC)
    specs = [
        spec
        for spec in services.store.monitoring_specs(model)
        if spec.mode == "automatic" and spec.retrain.earlier > 0 and tenant in (None, spec.tenant)
    ]
    if not specs:
        return []
    around = read_surroundings(services, specs, at)
    found = []
    for spec in specs:
        try:
            with services.store.retraining_lock(f"look-back:{spec.tenant}/{spec.model}") as mine:
                found.append(_look_back(services, around.of(spec), now) if mine else _elsewhere(spec))
        except StoreUnavailableError:
            raise
        except HeadgateError as err:
            found.append(LookedBack(spec.tenant, spec.model, f"could not be looked at: {err}"))
        except Exception as err:  # One that breaks must not hold back the others (MN-02).
            logger.exception("former champions of %s could not be looked at", spec.model)
            found.append(LookedBack(spec.tenant, spec.model, f"could not be looked at: {err!r:.300}"))
    return found


def _elsewhere(spec: MonitoringSpec) -> LookedBack:
    return LookedBack(spec.tenant, spec.model, "another run is at it")


def _in_the_way(seen: Circumstances) -> str:
    """The safeguards that stand in the way; empty when none does."""
    ask = Ask(Trigger.SCHEDULE, ACTOR, seen.severity)
    return "; ".join(
        f"{one.name}: {one.sentence}"
        for one in judge_safeguards(ask, seen)
        if one.name not in APART and (one.in_the_way or one.stand == "asks")
    )


def _look_back(services: "Services", seen: Circumstances, now: datetime | None) -> LookedBack:
    spec, champion = seen.spec, seen.champion
    told = _in_the_way(seen)
    if told or champion is None:
        return LookedBack(spec.tenant, spec.model, f"in the way: {told}")
    former = {
        version: since
        for version, since in services.store.former_champions(spec.model).items()
        if version != champion
    }
    if not former:
        return LookedBack(spec.tenant, spec.model, "no other version has been champion")
    # Not by its names: they may hold a slash, and MLflow reads a path's %.
    name = hashlib.sha256(f"{spec.tenant}/{spec.model}".encode()).hexdigest()[:16]
    folder = services.settings.home / "looking-back" / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        found = _contest(services, seen, champion, former, folder.resolve())
        return found if isinstance(found, LookedBack) else _offer(services, spec, champion, *found, now)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _contest(
    services: "Services", seen: Circumstances, champion: str, former: dict[str, datetime], folder: Path
) -> LookedBack | tuple[str, str]:
    """The version that is proven best and how; or why there is none."""
    from headgate import training

    spec, registry = seen.spec, services.registry
    folder.mkdir(parents=True)
    windows = services.store.quarantines(spec.tenant, spec.model)
    serving = registry.download(spec.model, champion, folder / f"version-{champion}")
    data = training.cut(
        services.store,
        services.artifacts,
        spec,
        spec.model,
        spec.tenant,
        seen.now,
        windows,
        folder,
        champion=serving,
    )
    since = datetime.fromisoformat(data.manifest["holdout"]["first"])
    # A younger one may have been trained on these rows.
    known = [version for version, at in former.items() if at <= since][: spec.retrain.earlier]
    proven: dict[str, float] = {}
    for version in known:
        p = _proven(services, spec, data, version, serving, folder)
        if p is not None:
            proven[version] = p
    rows = f"the newest {data.holdout_rows} labelled rows"
    if not proven:
        tried = f"version {', '.join(known)}" if known else "no version that is older than they are"
        said = f"on {rows} none is proven better than version {champion} (tried: {tried}); it serves on"
        return LookedBack(spec.tenant, spec.model, said)
    best = min(proven, key=proven.__getitem__)
    return (
        best,
        f"version {best}, champion once, is right more often than version {champion} on {rows} (p {proven[best]:.4f})",
    )


def _offer(
    services: "Services", spec: MonitoringSpec, champion: str, best: str, better: str, now: datetime | None
) -> LookedBack:
    """Name it challenger if everything still holds: the contest took minutes to hours."""
    current = services.store.monitoring_spec(spec.tenant, spec.model) or spec
    seen = look(services, current, now or datetime.now(UTC))
    told = _in_the_way(seen)
    if current.mode != "automatic" or seen.champion != champion:
        told = told or f"mode {current.mode}, version {seen.champion} serves now"
    if told:
        return LookedBack(spec.tenant, spec.model, f"{better}, but meanwhile in the way: {told}")
    held_by = services.registry.offer_challenger(spec.model, best)
    if held_by is not None:
        return LookedBack(
            spec.tenant, spec.model, f"{better}, but version {held_by} holds the alias `challenger`"
        )
    said = f"{better}: it has the alias `challenger`, its rollout begins with the next sweep"
    return LookedBack(spec.tenant, spec.model, said, best)


def _proven(
    services: "Services",
    spec: MonitoringSpec,
    data: "TrainingData",
    version: str,
    serving: Path,
    folder: Path,
) -> float | None:
    try:
        found = _beside(services, spec, data, version, serving, folder)
    except ServiceUnavailableError:
        raise
    except HeadgateError as err:
        # Deleted in MLflow, or it can't be loaded any more: the others are looked at all the same.
        logger.warning("version %s of %s can't be tried: %s", version, spec.model, err)
        return None
    return proven_better(found.findings, spec.validation.alpha)


def _beside(
    services: "Services",
    spec: MonitoringSpec,
    data: "TrainingData",
    version: str,
    serving: Path,
    folder: Path,
) -> "Validation":
    from headgate import training
    from headgate.training.keeper import size_mb

    path = services.registry.download(spec.model, version, folder / f"version-{version}")
    known = training.Trained(path, {}, {}, folder / "none.log", 0.0, 0.0, size_mb(path), "none: it exists")
    return training.validate(spec, data, known, serving, folder / f"beside-{version}")
