"""What the gateway needs of a version that it serves, wherever that version runs."""

from typing import TYPE_CHECKING, Protocol

from headgate.gateway.execute import Answer, Arm
from headgate.gateway.lanes import Lane
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body

if TYPE_CHECKING:
    from headgate.gateway.compiled import Compiled


class Served(Protocol):
    """A version that answers: in this process, in processes of its own, or behind a URL.

    Attributes:
        options: how it is served. loaded_at: seconds since 1970. lane: the threads that its trial calls run on.
        compiled: its fast form, equal to the model on every body that it takes; None = it has none.
    """

    name: str
    version: str
    options: ServingOptions
    loaded_at: float
    lane: Lane
    compiled: "Compiled | None"

    @property
    def trouble(self) -> str | None:
        """Why it is out of rotation: it is loaded, but a trial is not called and fails at once; None = it is not."""
        ...

    def arm(self, arm: str) -> Arm[Body]:
        """This version as an arm of a split."""
        ...

    def call(self, body: Body) -> Answer:
        """Answer a body.

        Raises:
            RefusedError: the body does not fit this version's signature.
            ArmFailedError: the version could not answer.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds; calls under way are finished."""
        ...
