"""Every error headgate raises on purpose.

HeadgateError
├── ConfigError             a setting is wrong or missing
├── SpecError               a rollout spec is wrong; carries every finding
├── HistoryError            a logged history can't be replayed
├── NotFoundError           no such rollout, model, version or request
├── ConflictError           somebody else changed it first, or one is live already
├── IllegalVerbError        the phase does not allow the verb; says which it does
├── BadRequestError         a request body or row can't be used
├── ServiceUnavailableError PostgreSQL, MLflow or Prefect can't be reached
│   ├── StoreUnavailableError
│   ├── RegistryUnavailableError
│   ├── OrchestratorUnavailableError
│   ├── ArtifactsUnavailableError
│   └── HookUnavailableError
├── ArtifactTamperedError   an object is not what was written
└── EvidenceTamperedError   the hash chain does not verify

Facts go to `args`, prose to `__str__`, so every one survives pickling.
"""


class HeadgateError(Exception):
    """Anything headgate raises on purpose; its text is meant for the person who reads it."""


class ConfigError(HeadgateError):
    """A setting is wrong or missing."""

    def __init__(self, setting: str, value: object, rule: str) -> None:
        super().__init__(setting, value, rule)

    def __str__(self) -> str:
        setting, value, rule = self.args
        return f"{setting} is {value!r}, must {rule}"


class SpecError(HeadgateError):
    """A rollout spec is wrong; `args` is (source, findings), each finding a (place, problem, fix) triple."""

    def __init__(self, source: str, findings: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__(source, findings)
        self.findings = findings

    def __str__(self) -> str:
        source, findings = self.args
        lines = [f"  {place}: {problem}. {fix}" for place, problem, fix in findings]
        return "\n".join([f"{source}: {len(findings)} problem(s); no rollout was started", *lines])


class HistoryError(HeadgateError):
    """A logged history can't be replayed; nothing was judged on it."""

    def __init__(self, place: str, problem: str, fix: str) -> None:
        super().__init__(place, problem, fix)

    def __str__(self) -> str:
        place, problem, fix = self.args
        return f"{place}: {problem}; {fix}"


class NotFoundError(HeadgateError):
    """Something was named that does not exist."""

    def __init__(self, what: str, name: str, hint: str = "") -> None:
        super().__init__(what, name, hint)

    def __str__(self) -> str:
        what, name, hint = self.args
        return f"{what} '{name}' not found" + (f"; {hint}" if hint else "")


class ConflictError(HeadgateError):
    """Somebody else changed it first, or one is live already; nothing was changed."""

    def __init__(self, what: str, expected: object, found: object, hint: str = "") -> None:
        super().__init__(what, expected, found, hint)

    def __str__(self) -> str:
        what, expected, found, hint = self.args
        return f"{what}: expected {expected}, found {found}; nothing was changed" + (
            f"; {hint}" if hint else ""
        )


class IllegalVerbError(HeadgateError):
    """The rollout's phase does not allow the verb."""

    def __init__(self, verb: str, rollout_id: str, phase: str, legal: tuple[str, ...]) -> None:
        super().__init__(verb, rollout_id, phase, legal)

    def __str__(self) -> str:
        verb, rollout_id, phase, legal = self.args
        allowed = ", ".join(legal) if legal else "none, it has ended"
        return (
            f"can't {verb} {rollout_id}: it is {phase}; traffic was not changed; legal verbs now: {allowed}"
        )


class BadRequestError(HeadgateError):
    """A request body or a row can't be used as it is."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(field, value, rule)

    def __str__(self) -> str:
        field, value, rule = self.args
        return f"{field} is {value!r:.200}, must {rule}"


class ServiceUnavailableError(HeadgateError):
    """A service headgate stands on can't be reached."""

    service = "service"

    def __init__(self, address: str, cause: str) -> None:
        super().__init__(address, cause)

    def __str__(self) -> str:
        address, cause = self.args
        return (
            f"{self.service} at {address} can't be reached ({cause}); traffic stays as it is and does not move "
            "forward; check that it runs (`headgate up` starts the embedded one), headgate goes on by itself"
        )


class StoreUnavailableError(ServiceUnavailableError):
    """PostgreSQL can't be reached."""

    service = "PostgreSQL"


class RegistryUnavailableError(ServiceUnavailableError):
    """MLflow can't be reached."""

    service = "the MLflow registry"


class OrchestratorUnavailableError(ServiceUnavailableError):
    """Prefect can't be reached."""

    service = "the Prefect server"


class HookUnavailableError(ServiceUnavailableError):
    """The receiver of events did not take one."""

    def __str__(self) -> str:
        address, cause = self.args
        return f"the receiver of events at {address} did not take one ({cause}); it is sent again, traffic does not wait"


class ArtifactsUnavailableError(ServiceUnavailableError):
    """The folder or bucket of reports, evidence and archived days can't be used."""

    service = "the artifact store"

    def __init__(self, address: str, cause: str, hint: str = "") -> None:
        super().__init__(address, cause)
        self.args = (address, cause, hint)

    def __str__(self) -> str:
        address, cause, hint = self.args
        return (
            f"{self.service} at {address} can't be used ({cause}); traffic does not depend on it; "
            + (f"{hint}; " if hint else "")
            + "`headgate artifacts status` says what waits for it"
        )


class ArtifactTamperedError(HeadgateError):
    """The bytes of an object are not those that were written."""

    def __init__(self, key: str, expected: str, found: str) -> None:
        super().__init__(key, expected, found)

    def __str__(self) -> str:
        key, expected, found = self.args
        return (
            f"artifact '{key}': its SHA-256 is {found}, {expected} was written; it was changed or damaged since, so "
            "nothing was read from it; restore it from a backup"
        )


class EvidenceTamperedError(HeadgateError):
    """The hash chain of the audit does not verify."""

    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(seq, problem)

    def __str__(self) -> str:
        seq, problem = self.args
        return (
            f"evidence record {seq}: {problem}; records from here on can't be trusted; restore from a backup"
        )
