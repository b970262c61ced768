"""Reads what the safeguards judge on: of one model, or of a whole fleet in a handful of queries."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from headgate.core.monitoring import AUTO_RETRAIN_FLAG, MonitoringSpec
from headgate.core.profiles import resolve
from headgate.core.retraining.circumstances import Circumstances, Pilot, ReleasePlan, Report
from headgate.core.retraining.state import Retraining
from headgate.core.rollout import RegistryView
from headgate.core.spec import RolloutSpec
from headgate.errors import NotFoundError, RegistryUnavailableError

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
Key = tuple[str, str]
"""(tenant, model)."""
_MANY = 200
"""Models from which on reports are read of all at once."""
_UNDER_WAY = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around retrainings at one moment; `views` is None when MLflow can't be reached."""

    now: datetime
    views: Mapping[str, RegistryView] | None
    flags: Mapping[str, bool]
    rollouts: Mapping[str, str]
    releases: Mapping[str, Sequence[ReleasePlan]]
    live: Mapping[str, Sequence[Retraining]]
    times: Mapping[Key, tuple[datetime | None, datetime | None]]
    applied: Mapping[Key, datetime]
    pilots: Mapping[Key, Pilot]
    reports: Mapping[Key, Sequence[Report]] = field(default_factory=dict)
    quarantined: Mapping[Key, Sequence[tuple[date, date]]] = field(default_factory=dict)

    def of(self, spec: MonitoringSpec, own: Retraining | None = None) -> Circumstances:
        """The circumstances of one tenant's model.

        Args:
            spec: how it is watched.
            own: the retraining that is judged, which is not in its own way.
        """
        key = (spec.tenant, spec.model)
        view = self.views.get(spec.model) if self.views is not None else None
        others = [one for one in self.live.get(spec.model, ()) if own is None or one.id != own.id]
        holder = view.challenger if view is not None and view.challenger != view.champion else None
        begun, ended = self.times.get(key, (None, None))
        return Circumstances(
            now=self.now,
            spec=spec,
            flag=self.flags.get(AUTO_RETRAIN_FLAG),
            tenant_flag=self.flags.get(f"{AUTO_RETRAIN_FLAG}:{spec.tenant}"),
            reports=self.reports.get(key, ()),
            watched_since=self.applied.get(key),
            last_begun=begun,
            last_ended=ended,
            live=others[0].id if others else None,
            registry_read=self.views is not None,
            champion=view.champion if view is not None else None,
            challenger=None if own is not None and holder == own.version else holder,
            rollout=self.rollouts.get(spec.model),
            releases=self.releases.get(spec.model, ()),
            pilot=self._pilot(spec),
            quarantined=self.quarantined.get(key, ()),
        )

    def _pilot(self, spec: MonitoringSpec) -> Pilot:
        known = [
            self.pilots.get(_pilot_key(name, spec.model), Pilot()) for name in spec.retrain.pilot_tenants
        ]
        # The first that was promoted opens the way; a later one that was taken back closes it again.
        taken = max((one.taken_back_at for one in known if one.taken_back_at is not None), default=None)
        promoted = [one.promoted_at for one in known if one.promoted_at is not None]
        return Pilot(min((at for at in promoted if taken is None or at > taken), default=None), taken)


def look(
    services: "Services", spec: MonitoringSpec, now: datetime, own: Retraining | None = None
) -> Circumstances:
    """The circumstances of one tenant's model.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    return read_surroundings(services, [spec], now).of(spec, own)


def own_flag(services: "Services", tenant: str) -> bool:
    """True while ENABLE_AUTO_RETRAIN is on, and the tenant's own is not off."""
    flags = services.store.flags_of(AUTO_RETRAIN_FLAG)
    return flags.get(AUTO_RETRAIN_FLAG) is True and flags.get(f"{AUTO_RETRAIN_FLAG}:{tenant}") is not False


def read_surroundings(services: "Services", specs: Sequence[MonitoringSpec], now: datetime) -> Surroundings:
    """Read what stands around these models; the same number of queries for one as for a thousand.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    store = services.store
    keys = [(spec.tenant, spec.model) for spec in specs]
    farthest = max((2 * spec.retrain.confirm_days for spec in specs), default=0)
    first = now.date() - timedelta(days=farthest + 2)
    releases: dict[str, list[ReleasePlan]] = defaultdict(list)
    for release in store.specs():
        releases[release.model].append(_release(release))
    live: dict[str, list[Retraining]] = defaultdict(list)
    for one in store.live_retrainings():
        live[one.model].append(one)
    quarantined: dict[Key, list[tuple[date, date]]] = defaultdict(list)
    # Farther than training reaches now: what is under way was cut some days ago.
    reach = now.date() - max((spec.retrain.train_on for spec in specs), default=timedelta()) - _UNDER_WAY
    tenant, model = keys[0] if len(keys) == 1 else (None, None)
    for window in store.quarantines(tenant, model, first=reach):
        quarantined[window.tenant, window.model].append((window.first, window.last))
    return Surroundings(
        now=now,
        views=_views(services, specs),
        flags=store.flags_of(AUTO_RETRAIN_FLAG),
        rollouts={one.model: one.id for one in store.live()},
        releases=releases,
        live=live,
        times=store.retraining_times(),
        applied=store.monitoring_times(),
        pilots=store.pilots(),
        reports=store.told_days(first, now.date(), keys if len(keys) < _MANY else None),
        quarantined=quarantined,
    )


def _views(services: "Services", specs: Sequence[MonitoringSpec]) -> Mapping[str, RegistryView] | None:
    try:
        if len(specs) != 1:
            return services.registry.views()
        try:
            return {specs[0].model: services.registry.view(specs[0].model)}
        except NotFoundError:
            return {}
    except RegistryUnavailableError as err:
        logger.warning("who serves can't be seen: %s", err)
        return None


def _release(spec: RolloutSpec) -> ReleasePlan:
    automatic = resolve(spec.profile, spec.environment, spec.overrides).rollback_enabled
    return ReleasePlan(spec.tenant, spec.watch.duration, automatic)


def _pilot_key(name: str, model: str) -> Key:
    tenant, slash, own_model = name.rpartition("/")
    return (tenant, own_model) if slash else (name, model)
