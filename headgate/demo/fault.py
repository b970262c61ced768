"""Why the demo could not be played to its end."""

from headgate.errors import HeadgateError


class DemoError(HeadgateError):
    """The demo can't go on. `args` is (what, why, where to look)."""

    def __init__(self, what: str, why: str, look: str = "") -> None:
        super().__init__(what, why, look)

    def __str__(self) -> str:
        what, why, look = self.args
        return f"the demo stopped: {what}: {why}" + (f"; look at {look}" if look else "")
