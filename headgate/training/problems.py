"""What can go wrong on the way to a retrained version. The champion serves on, unchanged, unless a trainer moved aliases."""

from headgate.errors import HeadgateError

_UNCHANGED = "nothing was registered, the champion serves on"


class TooFewLabelsError(HeadgateError):
    """The log does not hold what a training needs; `args` is (model, tenant, problem, advice)."""

    def __init__(self, model: str, tenant: str, problem: str, advice: str) -> None:
        super().__init__(model, tenant, problem, advice)

    def __str__(self) -> str:
        model, tenant, problem, advice = self.args
        return f"no training data for {model} of {tenant}: {problem}; {_UNCHANGED}; {advice}"


class TrainingFailedError(HeadgateError):
    """The trainer did not bring a usable model; `args` is (problem, advice, the end of its log, what became of traffic)."""

    def __init__(self, problem: str, advice: str, log_tail: str = "", traffic: str = _UNCHANGED) -> None:
        super().__init__(problem, advice, log_tail, traffic)

    @property
    def traffic(self) -> str | None:
        """What became of traffic; None = nothing, as is usual."""
        return None if self.args[3] == _UNCHANGED else str(self.args[3])

    @property
    def problem(self) -> str:
        """What happened, without the log."""
        return str(self.args[0])

    @property
    def log_tail(self) -> str:
        """The last lines that the trainer wrote."""
        return str(self.args[2])

    def __str__(self) -> str:
        problem, advice, log_tail, traffic = self.args
        shown = f"\nthe end of its log:\n{log_tail}" if log_tail else ""
        return f"training failed: {problem}; {traffic}; {advice}{shown}"


class TrainingCancelledError(HeadgateError):
    """Somebody called it off; `args` is what was under way."""

    def __str__(self) -> str:
        return f"{self.args[0]} was cancelled and its processes were ended; {_UNCHANGED}"
