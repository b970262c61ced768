"""The demo from its first word to its exit code."""

from pathlib import Path

from headgate.demo.cast import prepare
from headgate.demo.screen import Screen


def play(home: Path, *, interactive: bool, keep: bool) -> int:
    """Play it and judge it; 0 when every fact is as promised, else 1.

    Args:
        home: the state goes to `demo/state` below it, the results to `demo`.
        interactive: wait for a person to approve in Prefect's UI.
        keep: leave the stack running at the end, until Ctrl-C.

    Raises:
        HeadgateError: it could not be played to its end.
    """
    folder = (home / "demo").expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with Screen() as screen:
        screen.say("headgate demo: one champion, three challengers", "bold")
        ready = prepare(folder / "state", screen)
        try:
            # Here: it needs scikit-learn and MLflow, which are imported by now.
            from headgate.demo import finish, story

            result = story.act(ready, folder, screen, interactive=interactive)
            screen.still()
            wrong = finish.tell(result, screen, folder, kept=keep)
            if keep:
                screen.say("the stack stays up; Ctrl-C ends it", "bold")
                ready.stack.serve()
        finally:
            screen.line("stopping the servers")
            ready.stack.stop()
    return 1 if wrong else 0
