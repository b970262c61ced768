"""The demo: real models, real traffic, three rollouts on the real stack."""

from pathlib import Path


def run(home: Path | None = None, *, interactive: bool = False, keep: bool = False) -> int:
    """Play the demo; see `headgate.demo.play.play`."""
    from headgate.demo.play import play

    return play(home if home is not None else Path(".headgate"), interactive=interactive, keep=keep)
