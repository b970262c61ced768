"""The split: which versions share the traffic, and how a key finds its arm."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Split:
    """The dial, as the registered-model tag `headgate.split` holds it.

    Attributes:
        rollout_id: whose split it is; None when nobody's.
        weights: version -> percent of traffic, 0-100; what they leave is the champion's.
        frozen: True = no key that is not yet in may come in (weights may only fall).
        salt: mixed into the bucket of every key.
        revision: grows by one with every write.
    """

    rollout_id: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    frozen: bool = False
    salt: str = ""
    revision: int = 0
