"""The demo from its first word to its exit code."""

from importlib import import_module
from pathlib import Path
from typing import Literal

from headgate.demo.screen import Screen

StoryName = Literal["rollouts", "drift"]
_STORIES = {
    "rollouts": ("demo", "headgate demo: one champion, three challengers", "headgate.demo", "cast"),
    "drift": ("demo-drift", "headgate demo: the world moves", "headgate.demo.drift", "stage"),
}
"""Story -> its folder, its first words, where it is, which module gets it ready."""


def play(home: Path, *, interactive: bool, keep: bool, story: StoryName = "rollouts") -> int:
    """Play it and judge it; 0 when every fact is as promised, else 1.

    Args:
        home: the state goes to `demo/state` (of `drift`: `demo-drift/state`) below it, the results to the folder above.
        interactive: wait for a person to approve in Prefect's UI; `drift` asks nobody.
        keep: leave the stack running at the end, until Ctrl-C.
        story: which.

    Raises:
        HeadgateError: it could not be played to its end.
    """
    name, title, package, preparing = _STORIES[story]
    folder = (home / name).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with Screen() as screen:
        screen.say(title, "bold")
        ready = import_module(f"{package}.{preparing}").prepare(folder / "state", screen)
        try:
            # Here: they need scikit-learn and MLflow, which are imported by now.
            acts, finish = import_module(f"{package}.story"), import_module(f"{package}.finish")
            result = acts.act(ready, folder, screen, interactive=interactive)
            screen.still()
            wrong = finish.tell(result, screen, folder, kept=keep)
            if keep:
                screen.say("the stack stays up; Ctrl-C ends it", "bold")
                ready.stack.serve()
        finally:
            screen.line("stopping the servers")
            ready.stack.stop()
    return 1 if wrong else 0
