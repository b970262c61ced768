"""`headgate serve`: the gateway alone."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from headgate.core.rollout import RegistryView
    from headgate.gateway.supervise import Serving
    from headgate.settings import Settings

_SIGNS = {"ready": "[green]ready[/]", "restarted": "[yellow]restarted[/]"}
MEBIBYTE = 1024 * 1024
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(  # noqa: PLR0913 - a command has as many options as it has
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Registered models; none = every one that has a champion."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, max=256, help="Gateway processes.")] = 1,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 = any that is free.")] = 8080,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 = every network.")] = "127.0.0.1",
    isolation: Annotated[
        str | None, typer.Option("--isolation", help="thread, or process: each version in one of its own.")
    ] = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout-s", help="Seconds a challenger may take.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Most calls that a version gets at once.")
    ] = None,
    queue: Annotated[int | None, typer.Option("--queue", help="Most calls that wait for a version.")] = None,
    batch_rows: Annotated[
        int | None, typer.Option("--batch-rows", help="Most rows of several requests in one call; 1 = off.")
    ] = None,
    batch_wait_ms: Annotated[
        float | None, typer.Option("--batch-wait-ms", help="Longest wait for others' rows.")
    ] = None,
    memory_mb: Annotated[
        int | None, typer.Option("--memory-mb", help="MiB at which a version's own process starts anew.")
    ] = None,
    cache_entries: Annotated[
        int | None, typer.Option("--cache-entries", help="Answers remembered; 0 = no cache.")
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option("--compiled/--no-compiled", help="Use a model's fast form, where it has one."),
    ] = None,
    max_body_mb: Annotated[
        float, typer.Option("--max-body-mb", min=0.001, help="A larger body is answered 413.")
    ] = 16,
    access_log: Annotated[
        Path | None, typer.Option("--access-log", help="File for one JSON line per request; - = stdout.")
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", help="File for the gateway's own log, as JSON lines.")
    ] = None,
    log_level: Annotated[str, typer.Option("--log-level", help=", ".join(LOG_LEVELS))] = "INFO",
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="Written as JSON once requests are answered.")
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose predictions are logged.")] = "default",
    home: Annotated[
        Path | None,
        typer.Option("--home", help="Model files and what PostgreSQL has not yet; default: HEADGATE_HOME."),
    ] = None,
) -> None:
    """Serve models: MLflow's scoring protocol at /invocations, split as the registry says, until Ctrl-C.

    Needs PostgreSQL (HEADGATE_DATABASE_URL) and MLflow (HEADGATE_MLFLOW_URI), or a running `headgate up` with the same
    home. Who gets traffic is what MLflow's aliases say: champion, challenger, shadow.

    What is not given here is read from HEADGATE_* variables; what a version's tags in MLflow say (headgate.isolation,
    headgate.timeout_s, headgate.batch_rows …) comes before both.
    """
    from headgate.errors import BadRequestError
    from headgate.settings import load_settings

    if log_level.upper() not in LOG_LEVELS:
        raise BadRequestError("--log-level", log_level, f"be one of {', '.join(LOG_LEVELS)}")
    given: dict[str, Any] = {
        "home": home,
        "isolation": isolation,
        "predict_timeout_s": timeout_s,
        "concurrency": concurrency,
        "queue": queue,
        "batch_rows": batch_rows,
        "batch_wait_ms": batch_wait_ms,
        "memory_mb": memory_mb,
        "cache_entries": cache_entries,
        "compiled": compiled,
        "access_log": access_log,
        "log_file": log_file,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = load_settings(**chosen)
    settings.required("database_url"), settings.required("mlflow_uri")
    # Here, not before: it takes a second, and a wrong option is told at once.
    from headgate.gateway.supervise import Serving

    what = Serving(
        models=tuple(dict.fromkeys(models or ())),
        host=host,
        port=port,
        workers=workers,
        tenant=tenant,
        max_body_bytes=round(max_body_mb * MEBIBYTE),
        log_level=log_level.upper(),
        ready_file=ready_file,
        variables={f"HEADGATE_{name.upper()}": str(value) for name, value in chosen.items()},
    )
    sys.exit(_run(what, settings))


def _run(what: "Serving", settings: "Settings") -> int:
    from headgate.cli.render import console

    out = console()
    views = _check_models(settings, what.models)
    _bring_up_to_date(settings)
    begun = time.monotonic()

    def tell(name: str, state: str, seconds: float) -> None:
        text = f"  {name} {_SIGNS.get(state, state)}"
        out.print(
            f"{text} after {seconds:.1f} s" if seconds else f"{text} …", style="dim" if not seconds else None
        )

    def answers(url: str) -> None:
        out.print(_served(what, views, url))
        out.print(f"answering at {url} after {time.monotonic() - begun:.1f} s; Ctrl-C ends it")

    if what.workers == 1:
        tell("gateway", "starting", 0.0)
        return _run_one(what, settings, answers)
    from headgate.gateway.access import set_up_logging
    from headgate.gateway.supervise import Workers
    from headgate.stack.interrupts import termination_interrupts

    set_up_logging(what.log_level, settings.log_file)
    workers = Workers(what, settings, tell)
    with termination_interrupts():
        try:
            workers.start()
            answers(workers.url)
            workers.wait()
        finally:
            workers.stop()
    return 0


def _run_one(what: "Serving", settings: "Settings", answers: Any) -> int:
    from headgate.gateway.server import address_of, listen, serve, write_ready

    held = listen(what.host, what.port)
    # Here, not on top: they take seconds.
    from headgate.gateway.__main__ import prepare, with_mover
    from headgate.gateway.app import create_app

    prepare(what.log_level, settings.log_file)
    app = create_app(
        with_mover(settings),
        models=what.models or None,
        tenant=what.tenant,
        max_body_bytes=what.max_body_bytes,
    )
    url = address_of(held)

    def on_listening() -> None:
        answers(url)
        write_ready(what.ready_file, url, [os.getpid()])

    try:
        return 0 if serve(app, held, on_listening=on_listening) else 1
    finally:
        if what.ready_file is not None:
            what.ready_file.unlink(missing_ok=True)


def _check_models(settings: "Settings", models: Sequence[str]) -> dict[str, "RegistryView"] | None:
    """What the registry shows; None when it does not answer, what was served last is then served on.

    Raises:
        NotFoundError: a model of that name is not registered.
    """
    from headgate.errors import NotFoundError, RegistryUnavailableError
    from headgate.registry import Registry

    registry = Registry(settings.required("mlflow_uri"), timeout_s=settings.registry_timeout_s)
    try:
        views = registry.views()
        for model in models:
            if model in views:
                continue
            try:
                registry.view(model)
            except NotFoundError as err:
                there = ", ".join(sorted(views)) or "none yet"
                raise NotFoundError("model", model, f"models with a champion: {there}") from err
            typer.echo(
                f"{model} has no version with the alias champion; it is served once one has it", err=True
            )
    except RegistryUnavailableError as err:
        typer.echo(f"{err}\nwhat was served last is served on", err=True)
        return None
    finally:
        registry.close()
    return {model: view for model, view in views.items() if not models or model in models}


def _bring_up_to_date(settings: "Settings") -> None:
    from headgate.errors import StoreUnavailableError
    from headgate.store.store import Store

    store = Store(settings.required("database_url"))
    try:
        store.migrate()
    except StoreUnavailableError as err:
        typer.echo(f"{err}\npredictions are kept on disk until it answers", err=True)
    finally:
        store.close()


def _served(what: "Serving", views: dict[str, "RegistryView"] | None, url: str) -> Any:
    from rich.table import Table

    table = Table("model", "champion", "challenger", "shadow", "address", box=None)
    alone = len(views or ()) == 1
    for model, view in sorted((views or {}).items()):
        weights = view.split.weights if view.split is not None else {}
        share = weights.get(view.challenger or "", 0.0)
        challenger = f"{view.challenger} at {share:g} %" if view.challenger else "none"
        path = "/invocations" if alone else f"/models/{model}/invocations"
        table.add_row(model, view.champion or "none", challenger, view.shadow or "none", f"{url}{path}")
    for model in what.models:
        if model not in (views or {}):
            table.add_row(model, "none yet", "", "", f"{url}/models/{model}/invocations")
    return table
