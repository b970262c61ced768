"""Shadow only: does the challenger answer as the champion does?"""

import math

from headgate.core.checks.finding import Basis, Finding, below, conclude, severity
from headgate.core.checks.windows import mean, share
from headgate.core.evidence import Evidence
from headgate.core.spec import ShadowSpec
from headgate.core.stats.sequential import log_not_worse_points
from headgate.core.verdict import Outcome, Verdict

NAME = "agreement"
PROVEN_LOG_E = math.log(100)
TROUBLESHOOT_BELOW = 0.5
"""S1:477: so little agreement is rarely the model; look at its inputs first."""


def _evidence(agreements: int, paired: int, least: float) -> float:
    """Log evidence that the arms agree less often than `least`, whenever one looks; see `is_proven`."""
    if not 0 <= agreements <= paired:
        return 0.0
    return float(log_not_worse_points(agreements, paired, least))


def is_proven(verdict: Verdict) -> bool:
    """True when too little agreement is no chance: by chance it would be called so at most once in 100 rollouts."""
    log_e = verdict.numbers.get("log_e")
    return log_e is not None and log_e >= PROVEN_LOG_E


def judge_agreement(evidence: Evidence, shadow: ShadowSpec) -> Verdict:
    """Judge the share of mirrored requests on which both arms gave the same answer (S1:390, S1:404, S1:477).

    FAIL below `min_agreement`, WARN below `warn_agreement`. Fewer paired answers than `min_samples` give no verdict.
    """
    step = evidence.challenger.step
    paired = step.paired
    agreed = share(step.agreements, paired) if paired >= shadow.min_samples else None
    basis = Basis(
        check=NAME,
        samples=paired,
        window_s=0.0,
        numbers={
            "agreement_rate": agreed,
            "avg_confidence_delta": mean(step.confidence_delta_sum, step.paired_confidence_n),
            "avg_latency_delta_ms": mean(step.latency_delta_sum_ms, paired),
            "log_e": _evidence(step.agreements, paired, shadow.min_agreement),
        },
        actions=(),
    )
    if agreed is None:
        return conclude(basis, (), proven=None, lacking=f"{paired} of {shadow.min_samples} paired answers")
    findings = []
    if below(agreed, shadow.min_agreement):
        reason = f"agreement {agreed:.4f} < {shadow.min_agreement:g}"
        if below(agreed, TROUBLESHOOT_BELOW):
            reason += "; check for different data, preprocessing or seeds before blaming the model"
        bad = severity(agreed, shadow.min_agreement, 0.0)
        findings.append(Finding(Outcome.FAIL, reason, bad, "low_agreement"))
    elif below(agreed, shadow.warn_agreement):
        reason = f"agreement {agreed:.4f} < {shadow.warn_agreement:g}: the models behave differently"
        findings.append(Finding(Outcome.WARN, reason, indicator="models_behave_differently"))
    return conclude(basis, findings, proven=f"agreement {agreed:.4f} over {paired} mirrored requests")
