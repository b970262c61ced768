"""Commands that ask: why is the verdict what it is, what can be learnt, what is worth a person's look."""

from pathlib import Path
from typing import Annotated, Any

import typer

from headgate.cli.common import JSON, ROLLOUT, connected, print_json

SPEC = Annotated[Path, typer.Argument(metavar="SPEC", help="A rollout spec (YAML).", show_default=False)]
RATE = Annotated[str, typer.Option("--rate", help="Requests of both arms together: 40/h, 2/s, 1200/d.")]
LABEL_RATE = Annotated[
    str | None, typer.Option("--label-rate", help="Labels that come in, likewise; default: one per request.")
]
LABELLED = Annotated[
    str | None, typer.Option("--labelled", help="Instead: the share of requests that get a label: 25%.")
]
LABEL_DELAY = Annotated[str, typer.Option("--label-delay", help="From a prediction to its label: 2h.")]
ACCURACY = Annotated[str, typer.Option("--accuracy", help="The champion's accuracy: 0.9 or 90%.")]
ERROR_RATE = Annotated[str, typer.Option("--error-rate", help="The champion's error rate: 1%.")]
AGREEMENT = Annotated[
    str, typer.Option("--agreement", help="Share of shadow answers that are right or wrong together: 95%.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, function in _COMMANDS.items():
        app.command(name)(function)


def plan(  # noqa: PLR0913 - one option per thing that is expected
    spec: SPEC,
    rate: RATE,
    label_rate: LABEL_RATE = None,
    labelled: LABELLED = None,
    label_delay: LABEL_DELAY = "0s",
    accuracy: ACCURACY = "0.9",
    error_rate: ERROR_RATE = "1%",
    agreement: AGREEMENT = "95%",
    as_json: JSON = False,
) -> None:
    """Before starting: how small a harm each step can see with this traffic, how long it takes, and where to learn it."""
    from headgate.cli import planned, render
    from headgate.errors import BadRequestError
    from headgate.plan import advice, traffic, walk
    from headgate.specfile import load_spec

    if label_rate is not None and labelled is not None:
        raise BadRequestError("--labelled", labelled, "not be given beside --label-rate")
    requests_s = traffic.parse_rate(rate)
    labels_s = traffic.parse_rate(label_rate, "label rate") if label_rate is not None else requests_s
    if labelled is not None:
        labels_s = requests_s * traffic.parse_share(labelled, "labelled")
    expected = traffic.Traffic(
        requests_s=requests_s,
        labels_s=labels_s,
        label_delay_s=traffic.parse_delay(label_delay, "label delay"),
        accuracy=traffic.parse_share(accuracy, "accuracy"),
        error_rate=traffic.parse_share(error_rate, "error rate"),
        agreement=traffic.parse_share(agreement, "agreement"),
    )
    made = advice.as_json(walk.plan(load_spec(spec), expected))
    print_json(made) if as_json else render.show_page(planned.page(made))


def explain(rollout: ROLLOUT, as_json: JSON = False) -> None:
    """Every check in one screen: the arms, the evidence for and against, what would change the verdict, what drives it."""
    from headgate import inquiry, verbs
    from headgate.cli import explained, render

    with connected() as services:
        told = inquiry.explain(services, verbs.find(services, rollout).id)
    print_json(told) if as_json else render.show_page(explained.page(told))


def label_queue(
    rollout: ROLLOUT,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many rows.")] = 200,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write there: .csv or .parquet; default: CSV here.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option("--answers", help="Read a labelled file back in: .csv or .parquet.")
    ] = None,
) -> None:
    """The answers worth labelling first, with an empty column `label`; and the labelled file back in."""
    from headgate import labels, verbs
    from headgate.errors import BadRequestError

    if out is not None and answers is not None:
        raise BadRequestError("--answers", str(answers), "not be given beside --out")
    with connected() as services:
        found = verbs.find(services, rollout)
        if answers is not None:
            told = labels.take_in(services, found, answers)
        else:
            rows = services.store.label_queue(found, limit)
    if answers is not None:
        _report(told)
    elif out is not None:
        labels.write_queue(rows, out)
        typer.echo(
            f"{len(rows)} answers to label in {out}; then: headgate label-queue {found.id} --answers {out}"
        )
    else:
        typer.echo(labels.queue_text(rows), nl=False)


def review(
    days: Annotated[float, typer.Option("--days", min=0.01, max=3660, help="How far back.")] = 7,
    as_json: JSON = False,
) -> None:
    """The risk review: what ended how, what was a false alarm, how fast traffic was cut, which limits to change."""
    from headgate import inquiry
    from headgate.cli import render, reviewed

    with connected() as services:
        told = inquiry.review(services, days)
    print_json(told) if as_json else render.show_page(reviewed.page(told))


def _report(told: Any) -> None:
    """What became of a labelled file; what can't be used goes to stderr."""
    typer.echo(
        f"{told.joined} labels joined, {told.duplicate} known already, {told.empty} rows without a label"
    )
    if told.unknown:
        shown = ", ".join(told.unknown[:10]) + (" …" if len(told.unknown) > 10 else "")
        typer.echo(f"{len(told.unknown)} with no such prediction, kept in case it comes: {shown}", err=True)
    for problem in told.bad[:20]:
        typer.echo(problem, err=True)
    if told.bad:
        typer.echo(f"{len(told.bad)} rows can't be used", err=True)
        raise typer.Exit(1)


_COMMANDS: dict[str, Any] = {
    "explain": explain,
    "plan": plan,
    "label-queue": label_queue,
    "review": review,
}
