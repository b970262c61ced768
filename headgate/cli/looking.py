"""Commands that only look."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.common import JSON, ROLLOUT, connected, print_json

if TYPE_CHECKING:
    from headgate.services import Services

REFRESH_S = 1.0
MAYBE_ROLLOUT = Annotated[
    str | None, typer.Argument(metavar="[ROLLOUT]", help="A rollout's id, or its model's name.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, function in _COMMANDS.items():
        app.command(name)(function)


def status(rollout: MAYBE_ROLLOUT = None, as_json: JSON = False) -> None:
    """Where a rollout stands and why; without a name, all live ones."""
    from headgate import verbs, views
    from headgate.cli import render

    with connected() as services:
        if rollout is not None:
            described = views.describe(services, verbs.find(services, rollout).id)
            print_json(described) if as_json else render.show(render.rollout_page(described))
            return
        live = [views.summary(one) for one in services.store.live()]
    print_json(live) if as_json else render.show(render.rollout_table(live, empty="no rollout is live"))


def get(
    rollout: ROLLOUT,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it ends.")] = False,
) -> None:
    """One rollout; with -w a live view."""
    from headgate import verbs, views
    from headgate.cli import render

    with connected() as services:
        rollout_id = verbs.find(services, rollout).id
        if not watch:
            render.show(render.rollout_page(views.describe(services, rollout_id)))
            return
        _follow(services, rollout_id)


def _follow(services: "Services", rollout_id: str) -> None:
    from rich.live import Live
    from rich.text import Text

    from headgate import views
    from headgate.cli import render
    from headgate.core.words import Phase
    from headgate.errors import ServiceUnavailableError

    with Live(console=render.console(), refresh_per_second=4) as live:
        while True:
            try:
                described = views.describe(services, rollout_id)
            except ServiceUnavailableError as error:
                live.update(Text(f"waiting: {error}"))
            else:
                live.update(render.rollout_page(described))
                if not Phase(described["phase"]).live:
                    return
            time.sleep(REFRESH_S)


def list_rollouts(
    model: Annotated[str | None, typer.Option("--model", help="Only this model's.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 50,
    as_json: JSON = False,
) -> None:
    """Rollouts, newest first."""
    from headgate import views
    from headgate.cli import render

    with connected() as services:
        rows = [views.summary(one) for one in services.store.rollouts(model=model, limit=limit)]
    print_json(rows) if as_json else render.show(render.rollout_table(rows, empty="no rollout yet"))


def history(rollout: ROLLOUT, as_json: JSON = False) -> None:
    """Everything that was decided and done, with who and why; of `registry:MODEL` what was done by hand.

    Also of `retraining:ID`, `monitoring:MODEL`, `quarantine:MODEL` and `flag:NAME`.
    """
    from headgate import verbs
    from headgate.cli import render
    from headgate.store.audit import OF_NO_ROLLOUT, REGISTRY

    with connected() as services:
        by_hand = rollout.startswith((REGISTRY, *OF_NO_ROLLOUT))
        records = verbs.history(services, rollout if by_hand else verbs.find(services, rollout).id)
    rows = [
        {
            "seq": record.seq,
            "at": record.at.isoformat(),
            "kind": record.kind,
            "actor": record.actor,
            "from": record.from_phase,
            "to": record.to_phase,
            "weight_percent": record.body.get("state", {}).get("weight_percent"),
            "reason": record.reason,
        }
        for record in records
    ]
    print_json(rows) if as_json else render.show(render.history_table(rows))


def verify() -> None:
    """Check the hash chain of the evidence, record by record."""
    with connected() as services:
        report = services.store.verify()
    if not report.verified:
        typer.echo(f"headgate: the evidence does not verify: {report.problem}", err=True)
        sys.exit(1)
    typer.echo(f"{report.records} evidence records, all verified")


def lint(
    spec: Annotated[Path, typer.Argument(metavar="SPEC")],
    history: Annotated[
        Path | None,
        typer.Option(
            "--history", help="A logged history: refuse limits that its champion itself does not keep."
        ),
    ] = None,
    champion: Annotated[str | None, typer.Option("--champion", help="The version that serves.")] = None,
) -> None:
    """Explain every mistake in a rollout spec, with its place and the fix."""
    from headgate.specfile import lint_file

    plan, findings = lint_file(spec)
    if plan is not None and history is not None:
        from headgate.backtest.selfcheck import lint_history

        findings = lint_history(history, plan, champion)
    for finding in findings:
        typer.echo(f"{spec}: {finding[0]}: {finding[1]}. {finding[2]}", err=True)
    if plan is None or findings:
        sys.exit(1)
    ramp = ", ".join(f"{step.set_weight:g}" for step in plan.ramp)
    typer.echo(f"{spec}: good; {plan.model} through {ramp} percent, profile {plan.profile}")


def schema() -> None:
    """The rollout spec's JSON Schema, for editors."""
    from headgate.core import lint

    typer.echo(json.dumps(lint.schema(), indent=2))


def version() -> None:
    """The version of headgate."""
    from headgate import __version__

    typer.echo(__version__)


_COMMANDS: dict[str, Any] = {
    "status": status,
    "get": get,
    "list": list_rollouts,
    "history": history,
    "verify": verify,
    "lint": lint,
    "schema": schema,
    "version": version,
}
