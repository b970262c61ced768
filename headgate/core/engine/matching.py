"""Does the registry show what the rollout asked for?"""

import math
from collections.abc import Mapping

from headgate.core.rollout import Phase, RegistryTarget, RegistryView, Rollout


def mismatch(rollout: Rollout, view: RegistryView) -> str | None:
    """How the registry differs from the rollout's target, as one clause; None when it shows it.

    A rollout that wants no challenger (rolling back, promoting, watching) does not mind who else holds an alias, as
    long as its own version holds none and nobody has a weight: a next challenger may be waiting there. While a new
    champion is watched, the old one must have its hold-back.
    """
    target = rollout.target
    if view.split_error is not None:
        return f"the split can't be read ({view.split_error})"
    if view.champion != target.champion:
        return f"champion is {_named(view.champion)}, not {target.champion}"
    shown = _shares(view.split.weights) if view.split is not None else {}
    if target.challenger is None:
        if rollout.challenger in (view.challenger, view.shadow, view.holdback):
            return f"version {rollout.challenger} still holds an alias"
        if shown:
            return f"the split still gives {_weights(shown)}"
        return _beside(target, view) if target.holdback is not None else None
    if view.challenger != target.challenger:
        return f"challenger is {_named(view.challenger)}, not {target.challenger}"
    if view.shadow != target.shadow:
        return f"shadow is {_named(view.shadow)}, not {_named(target.shadow)}"
    if view.split is None or view.split.rollout_id != rollout.id or view.split.salt != target.split.salt:
        return f"the split is not that of {rollout.id}"
    wanted = dict(target.split.weights)
    if shown.keys() != wanted.keys() or not all(_same(shown[name], wanted[name]) for name in wanted):
        return f"the split gives {_weights(shown)}, not {_weights(wanted)}"
    return _beside(target, view)


def _beside(target: RegistryTarget, view: RegistryView) -> str | None:
    """What stays with the old champion besides the weights: hold-back and slices."""
    if target.holdback is not None and view.holdback != target.holdback:
        return f"holdback is {_named(view.holdback)}, not {target.holdback}"
    kept = _shares(view.split.holdback) if view.split is not None else {}
    wanted = _shares(target.split.holdback)
    if kept.keys() != wanted.keys() or not all(_same(kept[name], wanted[name]) for name in wanted):
        return f"the split holds back {_weights(kept)}, not {_weights(wanted)}"
    excluded = excluded_by(view)
    missing = _sliced(target.split.excluded)
    if excluded != missing:
        return f"the split excludes {_slices(excluded)}, not {_slices(missing)}"
    return None


def excluded_by(view: RegistryView) -> dict[str, frozenset[str]]:
    """The slices that the registry keeps from the challenger: column -> values."""
    return _sliced(view.split.excluded) if view.split is not None else {}


def is_emergency_stop(rollout: Rollout, view: RegistryView) -> bool:
    """True when the challenger's alias was taken away by hand (and not because a person made it champion).

    While pending it was never seen there, so nobody can have taken it.
    """
    wanted = rollout.target.challenger is not None and rollout.base_phase is not Phase.PENDING
    return wanted and view.challenger is None and view.champion != rollout.challenger


def meets_users(rollout: Rollout, view: RegistryView) -> bool:
    """True when the registry, whoever wrote it, lets the challenger answer users."""
    name, split = rollout.challenger, view.split
    weight, kept = (split.weights.get(name, 0.0), split.holdback.get(name, 0.0)) if split else (0.0, 0.0)
    return (
        view.champion == name
        or (view.challenger == name and weight > 0)
        or (view.holdback == name and kept > 0)
    )


def adopted_champion(rollout: Rollout, view: RegistryView | None) -> str:
    """The champion to end with: one that a person put there stays, unless it is the challenger."""
    if view is None or view.champion in (None, rollout.challenger):
        return rollout.champion
    return view.champion or rollout.champion


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: share for name, share in weights.items() if share > 0}


def _sliced(excluded: Mapping[str, tuple[str, ...]]) -> dict[str, frozenset[str]]:
    return {column: frozenset(values) for column, values in excluded.items() if values}


def _slices(excluded: Mapping[str, frozenset[str]]) -> str:
    named = [f"{column}={value}" for column, values in sorted(excluded.items()) for value in sorted(values)]
    return ", ".join(named) or "nobody"


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=0, abs_tol=1e-6)


def _named(version: str | None) -> str:
    return "nobody" if version is None else version


def _weights(weights: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:g} %" for name, share in sorted(weights.items())) or "nobody anything"
