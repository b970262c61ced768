"""Under which names the gateway logs a rollout's two versions."""

from typing import Literal

from headgate.core.rollout import Phase, Rollout
from headgate.core.routing.split import HOLDBACK

Role = Literal["challenger", "champion"]
ArmKey = tuple[str, str, str, str]
"""Tenant, model, version and arm."""
SHADOW = "shadow"
ARMS: dict[Role, tuple[str, ...]] = {
    "challenger": ("challenger", "champion", SHADOW),
    "champion": ("champion", HOLDBACK),
}
"""Every arm that a version in this role may answer under in the course of a rollout. Since a promoted challenger answers
as champion and the old champion as hold-back, the version tells the role, not the arm."""


def arm_of(rollout: Rollout, role: Role) -> ArmKey:
    """The arm under which the gateway logs the rollout's challenger, or the champion beside it, now.

    While the promoted challenger is watched, the champion beside it is the old one's hold-back. Without a hold-back
    nothing runs beside it: then it is what the old champion last answered.
    """
    watched = rollout.base_phase in (Phase.PROMOTING, Phase.WATCHING)
    if role == "champion":
        held_back = watched and rollout.spec.watch.holdback > 0
        return rollout.tenant, rollout.model, rollout.champion, HOLDBACK if held_back else "champion"
    if watched or rollout.base_phase is Phase.PROMOTED:
        arm = "champion"
    elif rollout.base_phase in (Phase.PENDING, Phase.SHADOWING):
        arm = SHADOW
    else:
        arm = "challenger"
    return rollout.tenant, rollout.model, rollout.challenger, arm
