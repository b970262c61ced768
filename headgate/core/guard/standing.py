"""Where the evidence of each check stands, read from what the sequential tests remember."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from headgate.core.evidence import Floats
from headgate.core.guard.gates import GATES, Layout, layout
from headgate.core.guard.progress import to_go
from headgate.core.guard.readings import Fleet
from headgate.core.guard.state import GuardState
from headgate.core.policies import Policies
from headgate.core.spec import EvidenceSpec
from headgate.core.stats.delays import maturity
from headgate.core.stats.paired import difference_sequence, log_not_worse_paired, log_worse
from headgate.core.verdict import Check, Standing

SHADOW_SHARE = 0.25
"""Part of accuracy's evidence for harm that is bet on the pairs of the shadow stage, where there is one."""
_CHUNK = 128
_AGES = (np.arange(32) + 0.5) / 32


def standings(
    states: Sequence[GuardState], policies: Sequence[Policies], specs: Sequence[EvidenceSpec]
) -> list[dict[str, Standing]]:
    """The standing of every enabled check of every rollout, by check.

    Args:
        states: as `advance` left them, one per rollout. A state that was never advanced has no standings.
        policies, specs: one per rollout.
    """
    found: list[dict[str, Standing]] = [{} for _ in states]
    groups: dict[Layout, list[int]] = {}
    for index, (state, policy) in enumerate(zip(states, policies, strict=True)):
        plan = layout(policy)
        if state.gates == plan.names and plan.gates:
            groups.setdefault(plan, []).append(index)
    for plan, members in groups.items():
        for start in range(0, len(members), _CHUNK):
            part = members[start : start + _CHUNK]
            fleet = Fleet(
                plan,
                [states[one] for one in part],
                [policies[one] for one in part],
                [specs[one] for one in part],
            )
            for check in GATES:
                if plan.of(check):
                    for index, standing in zip(part, _standings(fleet, check), strict=True):
                        found[index][check.value] = standing
    return found


def _standings(fleet: Fleet, check: Check) -> list[Standing]:
    """One check of rollouts with the same gates."""
    read = fleet.read(check)
    columns = [_plain(getattr(read, name)) for name in _OPTIONAL]
    log_e, needed, log_ni, extra, deff, n_t, n_c = (getattr(read, name).tolist() for name in _EXACT)
    parts, per_s = read.parts.tolist(), fleet.pace(check, read.n_challenger)
    result = []
    for row, (state, evidence) in enumerate(zip(fleet.states, fleet.specs, strict=True)):
        challenger, champion, difference, lately, low, high, margin = (column[row] for column in columns)
        standing = Standing(
            challenger=challenger,
            champion=champion,
            difference=difference,
            lately=lately,
            low=low,
            high=high,
            n_challenger=int(n_t[row]),
            n_champion=int(n_c[row]),
            alone=int(state.alone),
            log_e=log_e[row],
            log_e_needed=needed[row],
            margin=margin,
            extra_bad=extra[row],
            deff=deff[row],
            parts=dict(zip(read.names, parts[row], strict=True)),
        )
        if check is not Check.ANOMALY:
            wanted = -math.log(evidence.promote_alpha)
            standing = _promoting(check, standing, state, (log_ni[row], wanted), per_s[row])
        result.append(standing)
    return result


_OPTIONAL = ("challenger", "champion", "difference", "lately", "low", "high", "margin")
_EXACT = ("log_e", "needed", "log_ni", "extra_bad", "deff", "n_challenger", "n_champion")


def _plain(values: Floats) -> list[float | None]:
    finite = np.isfinite(values)
    if finite.all():
        return list(values.tolist())
    return [value if known else None for value, known in zip(values.tolist(), finite.tolist(), strict=True)]


def _promoting(
    check: Check, standing: Standing, state: GuardState, log_ni: tuple[float, float], per_s: float
) -> Standing:
    """The standing with promotion's evidence (now, needed), and what it still waits for."""
    shown, wanted = log_ni
    maturity = None
    if check is Check.ACCURACY:
        standing, shown = _with_pairs(standing, state, shown)
        maturity = _maturity(state)
    missing = to_go(check, standing, shown, wanted)
    eta_s = (
        None if missing is None or not (missing == 0 or per_s > 0) else missing / per_s if missing else 0.0
    )
    return replace(
        standing, log_ni=shown, log_ni_needed=wanted, to_go=missing, eta_s=eta_s, maturity=maturity
    )


def _maturity(state: GuardState) -> float | None:
    """Share of the labels that should be in by now, predictions taken as evenly spread since the beginning."""
    if state.started is None or state.counted_until is None or not state.delay_hist.any():
        return None
    covered_s = (state.counted_until - state.started).total_seconds()
    return float(np.mean(maturity(state.delay_hist, _AGES * covered_s)))


def _with_pairs(standing: Standing, state: GuardState, log_ni: float) -> tuple[Standing, float]:
    """Accuracy's standing and promotion's evidence with the shadow stage's pairs.

    Pairs and labels are different answers, so promotion's evidence multiplies. For harm a product would die of a long
    healthy shadow; it is a mean instead, its weights fixed before the first label.
    """
    pairs = sum(state.pairs)
    if not pairs:
        return standing, log_ni
    won, lost, tied = state.pairs
    log_pairs = log_worse(won, lost)
    log_e = standing.log_e
    if state.shadowed:
        log_e = float(np.logaddexp(math.log(SHADOW_SHARE) + log_pairs, math.log(1 - SHADOW_SHARE) + log_e))
    log_ni += log_not_worse_paired(won, lost, tied, standing.margin or 0.0)
    standing = replace(standing, log_e=log_e, parts={**standing.parts, "accuracy.pairs": log_pairs})
    if standing.n_challenger >= pairs:
        return standing, log_ni
    low, high = difference_sequence(won, lost, tied, math.exp(-standing.log_e_needed))
    paired = replace(
        standing,
        difference=(lost - won) / pairs,
        low=-high,
        high=-low,
        n_challenger=pairs,
        n_champion=max(pairs, standing.n_champion),
    )
    return paired, log_ni
