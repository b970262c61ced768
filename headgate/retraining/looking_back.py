"""Former champions on the newest labelled rows: what comes back in a market was often learnt once, and need not be trained."""

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
from headgate.errors import HeadgateError, StoreUnavailableError
from headgate.retraining.surroundings import read_surroundings

if TYPE_CHECKING:
    from headgate.services import Services
    from headgate.training import TrainingData

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
            found.append(_look_back(services, around.of(spec)))
        except StoreUnavailableError:
            raise
        except HeadgateError as err:
            found.append(LookedBack(spec.tenant, spec.model, f"could not be looked at: {err}"))
        except Exception as err:  # One that breaks must not hold back the others (MN-02).
            logger.exception("former champions of %s could not be looked at", spec.model)
            found.append(LookedBack(spec.tenant, spec.model, f"could not be looked at: {err!r:.300}"))
    return found


def _look_back(services: "Services", seen: Circumstances) -> LookedBack:
    spec, champion = seen.spec, seen.champion
    ask = Ask(Trigger.SCHEDULE, ACTOR, seen.severity)
    ways = [
        one
        for one in judge_safeguards(ask, seen)
        if one.name not in APART and (one.in_the_way or one.stand == "asks")
    ]
    if ways or champion is None:
        told = "; ".join(f"{one.name}: {one.sentence}" for one in ways)
        return LookedBack(spec.tenant, spec.model, f"in the way: {told}")
    former = {
        version: since
        for version, since in services.store.former_champions(spec.model).items()
        if version != champion
    }
    if not former:
        return LookedBack(spec.tenant, spec.model, "no other version has been champion")
    folder = services.settings.home / "looking-back" / f"{spec.tenant}-{spec.model}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return _contest(services, seen, champion, former, folder.resolve())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _contest(
    services: "Services", seen: Circumstances, champion: str, former: dict[str, datetime], folder: Path
) -> LookedBack:
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
    held_by = registry.offer_challenger(spec.model, best)
    better = f"version {best}, champion once, is right more often than version {champion} on {rows} (p {proven[best]:.4f})"
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
    from headgate import training
    from headgate.training.keeper import size_mb

    path = services.registry.download(spec.model, version, folder / f"version-{version}")
    known = training.Trained(path, {}, {}, folder / "none.log", 0.0, 0.0, size_mb(path), "none: it exists")
    found = training.validate(spec, data, known, serving, folder / f"beside-{version}")
    return proven_better(found.findings, spec.validation.alpha)
