"""The demo: real models, real traffic, real rollouts and retrainings on the real stack."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headgate.demo.play import StoryName


def run(
    home: Path | None = None,
    *,
    interactive: bool = False,
    keep: bool = False,
    story: "StoryName" = "rollouts",
) -> int:
    """Play the demo; see `headgate.demo.play.play`."""
    from headgate.demo.play import play

    place = home if home is not None else Path(".headgate")
    return play(place, interactive=interactive, keep=keep, story=story)
