"""`headgate up`: the embedded stack in the foreground."""

from pathlib import Path

from rich.table import Table

from headgate.cli.render import console
from headgate.local import Stack, find_project

_SIGNS = {"ready": "[green]ready[/]", "restarted": "[yellow]restarted[/]", "ended": "[yellow]ended[/]"}


def run_in_foreground(home: Path | None, project: Path | None) -> None:
    """Start the stack with progress, show its addresses, keep it until Ctrl-C and end it cleanly.

    Raises:
        ConflictError: it runs already; says where.
        StackError: a part did not start; nothing is left running.
    """
    out = console()

    def tell(name: str, state: str, seconds: float) -> None:
        if state in ("starting", "stopping"):
            out.print(f"  {name} {state} …", style="dim")
        else:
            out.print(f"  {name} {_SIGNS.get(state, state)} {f'after {seconds:.1f} s' if seconds else ''}")

    stack = Stack(home, find_project(project), progress=tell)
    try:
        stack.start()
        out.print(_addresses(stack))
        out.print(
            "Ctrl-C ends all of it. In another terminal: headgate apply SPEC, headgate status, headgate --help"
        )
        stack.serve()
    finally:
        stack.stop()
    out.print("everything has ended")


def _addresses(stack: Stack) -> Table:
    prefect = stack.addresses["prefect"].removesuffix("/api")
    table = Table("part", "address", "what for", box=None)
    table.add_row("gateway", stack.addresses["gateway"], "POST /invocations and /outcomes")
    table.add_row("MLflow", stack.addresses["mlflow"], "models, versions, aliases")
    table.add_row("Prefect", prefect, "sweeps, rollouts' stories, approvals")
    table.add_row("state", str(stack.home), "database, logs, spool, evidence")
    return table
