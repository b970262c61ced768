"""Commands that change something: one per verb."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.cli.common import ACTOR, REASON, ROLLOUT, connected, whoever
from headgate.core.words import Verb

SPEC = Annotated[Path, typer.Argument(metavar="SPEC", help="A rollout spec (YAML).", show_default=False)]
VERSION = Annotated[
    str | None, typer.Option("--version", "-V", help="The challenger; default: alias `challenger`.")
]
TO_VERSION = Annotated[str | None, typer.Option("--to-version", help="Bring this version back instead.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, function in _COMMANDS.items():
        app.command(name)(function)


def start(spec: SPEC, version: VERSION = None, reason: REASON = "", actor: ACTOR = "") -> None:
    """Start a challenger's rollout; asked twice, it is the same one."""
    from headgate import verbs
    from headgate.specfile import load_spec

    plan = load_spec(spec)
    with connected() as services:
        rollout = verbs.start(services, plan, version, actor=whoever(actor), reason=reason)
    typer.echo(f"{rollout.id}: version {rollout.challenger} of {rollout.model} is {rollout.phase.value}")
    typer.echo(f"follow it: headgate get -w {rollout.id}")


def apply(spec: SPEC, actor: ACTOR = "") -> None:
    """Register a spec: from now on the alias `challenger` on a version of its model starts a rollout."""
    from headgate import verbs
    from headgate.specfile import load_spec

    plan = load_spec(spec)
    with connected() as services:
        verbs.apply_spec(services, plan, actor=whoever(actor))
    typer.echo(f"registered for {plan.model}; set the alias `challenger` in MLflow to start a rollout")


def pause(rollout: ROLLOUT, reason: REASON = "", actor: ACTOR = "") -> None:
    """Stand still at the present weight."""
    _act(rollout, Verb.PAUSE, reason, actor)


def resume(
    rollout: ROLLOUT,
    adopt: Annotated[
        bool | None,
        typer.Option(
            "--adopt/--revert", help="After a foreign change: keep what the registry shows, or put ours back."
        ),
    ] = None,
    reason: REASON = "",
    actor: ACTOR = "",
) -> None:
    """Go on after a pause."""
    _act(rollout, Verb.RESUME, reason, actor, adopt=adopt)


def promote(
    rollout: ROLLOUT,
    full: Annotated[bool, typer.Option("--full", help="All the way to champion, not one step.")] = False,
    reason: REASON = "",
    actor: ACTOR = "",
) -> None:
    """Leave the present step without waiting for the rest of its soak."""
    _act(rollout, Verb.PROMOTE, reason, actor, full=full)


def approve(rollout: ROLLOUT, reason: REASON = "", actor: ACTOR = "") -> None:
    """Answer an open approval: yes."""
    _act(rollout, Verb.APPROVE, reason, actor)


def reject(rollout: ROLLOUT, reason: REASON = "", actor: ACTOR = "") -> None:
    """Answer an open approval: no; the challenger is taken back."""
    _act(rollout, Verb.REJECT, reason, actor)


def step_down(
    rollout: ROLLOUT,
    to_weight: Annotated[
        float | None, typer.Option("--to-weight", help="Percent to go down to; default: half.")
    ] = None,
    reason: REASON = "",
    actor: ACTOR = "",
) -> None:
    """Lower the challenger's weight; the steps above must be earned again."""
    _act(rollout, Verb.STEP_DOWN, reason, actor, to_weight=to_weight)


def abort(rollout: ROLLOUT, reason: REASON = "", actor: ACTOR = "") -> None:
    """End the rollout; where users have met the challenger, roll it back."""
    _act(rollout, Verb.ABORT, reason, actor)


def rollback(rollout: ROLLOUT, reason: REASON = "", actor: ACTOR = "") -> None:
    """Cut the challenger off now and bring the champion back."""
    _act(rollout, Verb.ROLLBACK, reason, actor)


def retry(rollout: ROLLOUT, reason: REASON = "", actor: ACTOR = "") -> None:
    """Start an ended rollout's version again, by the same spec."""
    _act(rollout, Verb.RETRY, reason, actor)


def undo(rollout: ROLLOUT, to_version: TO_VERSION = None, reason: REASON = "", actor: ACTOR = "") -> None:
    """Take a promotion back."""
    _act(rollout, Verb.UNDO, reason, actor, to_version=to_version)


def freeze(rollout: ROLLOUT, reason: REASON = "", actor: ACTOR = "") -> None:
    """Let no new key come to the challenger; those that are in stay."""
    _act(rollout, Verb.FREEZE, reason, actor)


def unfreeze(rollout: ROLLOUT, reason: REASON = "", actor: ACTOR = "") -> None:
    """Let new keys in again."""
    _act(rollout, Verb.UNFREEZE, reason, actor)


def _act(name: str, verb: Verb, reason: str, actor: str, **options: Any) -> None:
    from headgate import verbs

    with connected() as services:
        target = verbs.find(services, name)
        after = verbs.act(services, target.id, verb, actor=whoever(actor), reason=reason, **options)
    pause_reason = f" ({after.pause_reason.value})" if after.pause_reason else ""
    said = f": {after.last_ruling.reason}" if after.last_ruling else ""
    typer.echo(f"{after.id} is {after.phase.value}{pause_reason} at {after.weight_percent:g} %{said}")


_COMMANDS: dict[str, Any] = {
    "start": start,
    "apply": apply,
    "pause": pause,
    "resume": resume,
    "promote": promote,
    "approve": approve,
    "reject": reject,
    "step-down": step_down,
    "abort": abort,
    "rollback": rollback,
    "retry": retry,
    "undo": undo,
    "freeze": freeze,
    "unfreeze": unfreeze,
}
