"""`headgate artifacts`: what is in the artifact store, and what waits for it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.cli.common import JSON, connected, print_json

PREFIX = Annotated[
    str, typer.Argument(metavar="[PREFIX]", help="How keys begin: reports/, evidence/, archive/.")
]
KEY = Annotated[str, typer.Argument(metavar="KEY", help="An object's key, as `list` shows it.")]
TO = Annotated[
    Path | None,
    typer.Option(
        "--to", "-o", help="File to write; `-` = standard output. Default: the key's last part, here."
    ),
]

group = typer.Typer(help="Reports, evidence and archived days: the folder or bucket.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="artifacts")


@group.command()
def status(as_json: JSON = False) -> None:
    """Whether the place answers, since when it does not, what waits for it, and what is archived.

    Ends with 5 while the place can't be used.
    """
    from headgate.exporting import artifacts_status

    with connected() as services:
        found = artifacts_status(services)
    print_json(found) if as_json else typer.echo("\n".join(lines(found)))
    if found["problem"] is not None:
        raise typer.Exit(5)


@group.command("list")
def list_artifacts(prefix: PREFIX = "", as_json: JSON = False) -> None:
    """Objects by their keys, with those that wait."""
    with connected() as services:
        for entry in services.artifacts.list(prefix):
            shown = {
                "key": entry.key,
                "bytes": entry.bytes,
                "at": entry.at.isoformat(timespec="seconds"),
                "waiting": entry.waiting,
            }
            waits = "  waits for the place" if entry.waiting else ""
            typer.echo(
                json.dumps(shown) if as_json else f"{shown['at']}  {entry.bytes:>12,}  {entry.key}{waits}"
            )


@group.command()
def get(key: KEY, to: TO = None) -> None:
    """Copy an object to a file, and check that it is the one that was written."""
    with connected() as services:
        if to is not None and str(to) == "-":
            typer.echo(services.artifacts.get(key), nl=False)
            return
        target = to if to is not None else Path(key.rpartition("/")[2])
        stored = services.artifacts.fetch(key, target)
    typer.echo(f"{target}: {stored.bytes:,} bytes, SHA-256 {stored.sha256}, as it was written")


@group.command()
def deliver() -> None:
    """Deliver what waits now, and evidence that was not copied yet; the housekeeping does it every quarter of an hour."""
    from headgate.exporting import export_evidence

    with connected() as services:
        delivered = services.artifacts.deliver_pending(budget_s=3600)
        exported = export_evidence(services)
        left = services.artifacts.status()
    typer.echo(
        f"{delivered} object(s) delivered, {exported} record(s) of evidence copied, {left.waiting} wait"
    )


def lines(found: Mapping[str, Any]) -> list[str]:
    """The status as text."""
    waiting = found["waiting"]
    shown = [f"place      {found['place']}  {'answers' if found['problem'] is None else 'CAN NOT BE USED'}"]
    if found["problem"] is not None:
        shown.append(f"problem    {found['problem']}")
        shown.append(f"away since {found['away_since']}, tried {found['failures']} time(s)")
        shown.append(
            "meanwhile  objects wait on this machine's disk and are delivered in order when it is back; or"
        )
        shown.append(
            "           `headgate artifacts deliver` once it is. Archived days can't be read; none is dropped."
        )
    shown.append(
        f"waiting    {waiting['objects']} object(s), {waiting['bytes'] / 1e6:,.1f} of at most"
        f" {waiting['limit_mb']:,.0f} MB, in {waiting['folder']}"
        + (f", the oldest since {waiting['oldest']}" if waiting["oldest"] else "")
    )
    shown.append(
        f"so far     {waiting['delivered']} delivered late, {waiting['dropped']} dropped for want of room"
        f" ({waiting['dropped_bytes'] / 1e6:,.1f} MB), {waiting['refused']} refused and put aside"
    )
    archive, evidence = found["archive"], found["evidence"]
    if archive is None:
        shown.append(f"archive    not known: {found['store_problem']}")
        return shown
    state = (
        f"on, after {archive['after_days']} days" if archive["on"] else "off: HEADGATE_ARTIFACTS is not set"
    )
    shown.append(
        f"archive    {state}; {archive['days']} day(s) in {archive['files']} file(s), {archive['rows']:,} rows,"
        f" {archive['bytes'] / 1e6:,.1f} MB"
        + (f", {archive['oldest']} to {archive['newest']}" if archive["days"] else "")
    )
    if archive["overdue"]:
        shown.append(
            f"           {len(archive['overdue'])} day(s) older than {archive['keep_days']} days stay in PostgreSQL"
            f" until they are archived, the oldest {archive['overdue'][0]}"
        )
    shown.append(f"evidence   {evidence['exported']} of {evidence['records']} record(s) are there")
    return shown
