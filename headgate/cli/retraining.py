"""Commands about retraining: how models are watched, what is trained again, the switches, the quarantine."""

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate.cli.common import ACTOR, JSON, REASON, connected, print_json, whoever

if TYPE_CHECKING:
    from headgate.core.retraining.state import Retraining
    from headgate.services import Services

MODEL = Annotated[str, typer.Argument(metavar="MODEL", help="The registered model in MLflow.")]
TENANT = Annotated[str, typer.Option("--tenant", "-t", help="Whose.")]
NAME = Annotated[str, typer.Argument(metavar="RETRAINING", help="A retraining's id, or its model's name.")]
ANYWAY = Annotated[
    bool, typer.Option("--anyway", help="Also where the mode retrains nothing, or pilots come first.")
]
DAY = Annotated[datetime, typer.Argument(formats=["%Y-%m-%d"], help="A day of UTC.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, function in _COMMANDS.items():
        app.command(name)(function)
    for name, (summary, commands) in _GROUPS.items():
        group = typer.Typer(help=summary, no_args_is_help=True)
        for command, function in commands.items():
            group.command(command)(function)
        app.add_typer(group, name=name)


def monitor_apply(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A monitoring spec (YAML).")], actor: ACTOR = ""
) -> None:
    """Register how a model is watched and retrained; in place of the former spec."""
    from headgate.specfile import load_monitoring

    wanted = load_monitoring(spec)
    with connected() as services:
        services.store.save_monitoring_spec(wanted, actor=whoever(actor))
    typer.echo(f"{wanted.model} of {wanted.tenant} is watched in mode {wanted.mode}")


def monitor_show(model: MODEL, tenant: TENANT = "default", as_json: JSON = False) -> None:
    """Which triggers hold for a model, and which safeguards stand in the way."""
    from headgate.cli import render
    from headgate.cli.retraining_pages import triggers_page
    from headgate.retraining.proposing import monitored, retraining_triggers

    with connected() as services:
        spec = monitored(services, model, tenant).model_dump(mode="json", by_alias=True)
        found = retraining_triggers(services, model, tenant) | {"spec": spec}
    print_json(found) if as_json else render.show(triggers_page(found))


def monitor_list(as_json: JSON = False) -> None:
    """Every model that is watched, and how."""
    from headgate.cli import render
    from headgate.cli.retraining_pages import specs_table

    with connected() as services:
        rows = [
            {"tenant": one.tenant, "model": one.model, "mode": one.mode}
            for one in services.store.monitoring_specs()
        ]
    print_json(rows) if as_json else render.show(specs_table(rows))


def monitor_report(
    days: Annotated[int, typer.Option("--days", min=1, max=730, help="How far back.")] = 30,
    as_json: JSON = False,
) -> None:
    """What the automation has achieved: time to detection, retrainings, its own uptime; and what can't be measured."""
    from headgate.cli import render
    from headgate.cli.retraining_pages import report_page
    from headgate.retraining.report import monitoring_report

    with connected() as services:
        found = monitoring_report(services, days)
    print_json(found) if as_json else render.show(report_page(found))


def retrain(
    model: MODEL,
    reason: REASON = "",
    tenant: TENANT = "default",
    anyway: ANYWAY = False,
    here: Annotated[
        bool, typer.Option("--here", help="Train in this process instead of a Prefect run.")
    ] = False,
    actor: ACTOR = "",
) -> None:
    """Train a model again now; validated and released as any other, without confirmation and cooldown."""
    from headgate.retraining.advancing import advance
    from headgate.retraining.asking import start_run
    from headgate.retraining.proposing import retrain as ask

    with connected() as services:
        live = services.store.live_retraining(model, tenant) if here else None
        one = live or ask(services, model, tenant, actor=whoever(actor), reason=reason, anyway=anyway)
        if here:
            one = advance(services, one.id)
        elif start_run(services, one) is None:
            typer.echo("Prefect is away: it begins once Prefect is back, or now with --here", err=True)
    _say(one)
    typer.echo(f"follow it: headgate retrainings {one.id}")


def retrainings(
    name: Annotated[
        str | None, typer.Argument(metavar="[RETRAINING]", help="An id, or a model's name.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 50,
    as_json: JSON = False,
) -> None:
    """Retrainings, newest first; with an id everything about one."""
    from headgate.cli import render
    from headgate.cli.retraining_pages import retraining_page, retrainings_table
    from headgate.errors import NotFoundError
    from headgate.retraining.status import retraining_json

    with connected() as services:
        try:
            found = None if name is None else retraining_json(services.store.retraining(name))
        except NotFoundError:
            found = None
        rows = (
            [] if found else [retraining_json(one) for one in services.store.retrainings(name, limit=limit)]
        )
    if as_json:
        print_json(found or rows)
    else:
        render.show(retraining_page(found) if found else retrainings_table(rows))


def approve_retraining(name: NAME, reason: REASON = "", actor: ACTOR = "") -> None:
    """Allow a retraining that waits for a person."""
    _decide(name, "approve", reason, actor)


def decline_retraining(name: NAME, reason: REASON = "", actor: ACTOR = "") -> None:
    """Refuse a retraining that waits for a person; nothing changes."""
    _decide(name, "decline", reason, actor)


def cancel_retraining(name: NAME, reason: REASON = "", actor: ACTOR = "") -> None:
    """End a retraining whose version is not registered yet."""
    from headgate.retraining import asking

    with connected() as services:
        one = asking.find(services, name)
        _say(asking.cancel(services, one.id, by=whoever(actor), reason=reason))


def flag_list(as_json: JSON = False) -> None:
    """The switches of the automation, and every rollout's own."""
    with connected() as services:
        found = services.store.all_flags()
    if as_json:
        print_json(found)
        return
    for name, enabled in found.items():
        typer.echo(f"{name} {'on' if enabled else 'off'}")
    if "ENABLE_AUTO_RETRAIN" not in found:
        typer.echo("ENABLE_AUTO_RETRAIN off (never set)")


def flag_set(
    names: Annotated[list[str], typer.Argument(metavar="NAME… on|off", help="Flags, and last on or off.")],
    reason: REASON = "",
    actor: ACTOR = "",
) -> None:
    """Switch flags, several in one transaction; ENABLE_AUTO_RETRAIN:TENANT is a tenant's own."""
    from headgate.errors import BadRequestError

    *wanted, state = names
    if state not in ("on", "off") or not wanted:
        raise BadRequestError("flag set", " ".join(names), "be names and last on or off")
    with connected() as services:
        changed = services.store.switch_flags(
            wanted, enabled=state == "on", actor=whoever(actor), reason=reason
        )
    for name in wanted:
        typer.echo(f"{name} is {state}{'' if name in changed else ' already'}")


def quarantine_list(
    model: Annotated[str | None, typer.Option("--model", help="Only this model's.")] = None,
    lifted: Annotated[bool, typer.Option("--lifted", help="Former ones too.")] = False,
    as_json: JSON = False,
) -> None:
    """Days that are not trained on."""
    with connected() as services:
        found = services.store.quarantines(model=model, lifted=lifted)
    rows: list[dict[str, Any]] = [
        {
            "id": one.id,
            "tenant": one.tenant,
            "model": one.model,
            "first": one.first.isoformat(),
            "last": one.last.isoformat(),
            "reason": one.reason,
            "by": one.by,
            "lifted_by": one.lifted_by,
        }
        for one in found
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        over = f", lifted by {row['lifted_by']}" if row["lifted_by"] else ""
        typer.echo(
            f"{row['id']}  {row['model']} of {row['tenant']}: {row['first']} to {row['last']}, {row['reason']} (by {row['by']}{over})"
        )
    if not rows:
        typer.echo("no day is in quarantine")


def quarantine_add(
    model: MODEL, first: DAY, last: DAY, reason: REASON, tenant: TENANT = "default", actor: ACTOR = ""
) -> None:
    """Keep days out of training, both ends included."""
    begin, end = first.date(), last.date()
    with connected() as services:
        new = services.store.quarantine(tenant, model, begin, end, reason, whoever(actor), again=True)
    typer.echo(f"{model} of {tenant}: {begin} to {end} {'are kept out' if new else 'were kept out already'}")


def quarantine_lift(
    quarantine_id: Annotated[int, typer.Argument(metavar="ID")], reason: REASON, actor: ACTOR = ""
) -> None:
    """Let days be trained on again."""
    with connected() as services:
        one = services.store.lift_quarantine(quarantine_id, by=whoever(actor), reason=reason)
    typer.echo(f"{one.model} of {one.tenant}: {_days(one.first, one.last)} may be trained on")


def _days(first: date, last: date) -> str:
    return f"{first}" if first == last else f"{first} to {last}"


def _decide(name: str, decision: Any, reason: str, actor: str) -> None:
    from headgate.core.retraining.state import RetrainingPhase
    from headgate.retraining import asking

    with connected() as services:
        one = asking.find(services, name)
        after = asking.decide(services, one.id, decision, by=whoever(actor), via="cli", reason=reason)
        if after.phase is RetrainingPhase.APPROVED:
            _begin(services, after)
    _say(after)


def _begin(services: "Services", one: "Retraining") -> None:
    from headgate.retraining.asking import start_run

    if start_run(services, one) is None:
        typer.echo(
            f"Prefect is away: headgate retrain {one.model} --here trains it in this process", err=True
        )


def _say(one: "Retraining") -> None:
    typer.echo(f"{one.id} is {one.phase.value.replace('_', ' ')}: {one.said}")


_COMMANDS: dict[str, Any] = {
    "retrain": retrain,
    "retrainings": retrainings,
    "approve-retraining": approve_retraining,
    "decline-retraining": decline_retraining,
    "cancel-retraining": cancel_retraining,
}
_GROUPS: dict[str, tuple[str, dict[str, Any]]] = {
    "monitor": (
        "How models are watched and retrained.",
        {"apply": monitor_apply, "show": monitor_show, "list": monitor_list, "report": monitor_report},
    ),
    "flag": ("The switches of the automation.", {"list": flag_list, "set": flag_set}),
    "quarantine": (
        "Days that are not trained on.",
        {"list": quarantine_list, "add": quarantine_add, "lift": quarantine_lift},
    ),
}
