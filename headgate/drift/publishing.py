"""The pages of a report that moved: Evidently's, the one-page picture, to the artifacts and a run in MLflow.

None of it decides anything. What can't be made is said in the report's links, and the report stands.
"""

import json
import logging
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.artifacts.keys import key_part
from headgate.core.drift.report import DriftReport, at_least
from headgate.drift.picture import Behind, facts_of
from headgate.drift.runs import log_run
from headgate.drift.sampling import sample, spread
from headgate.errors import HeadgateError, NotFoundError
from headgate.reports import evidently_worker, page

if TYPE_CHECKING:
    from headgate.services import Services

logger = logging.getLogger(__name__)
HISTORY = timedelta(days=60)
FILES = {
    "page": ("page.html", "text/html; charset=utf-8"),
    "picture": ("page.png", "image/png"),
    "report": ("report.json", "application/json"),
    "evidently": (evidently_worker.HTML, "text/html; charset=utf-8"),
    "evidently_json": (evidently_worker.JSON_FILE, "application/json"),
}
"""Link -> file name and content type."""
RUN = "mlflow"
PROBLEMS = "problems"


def publish(
    services: "Services",
    report: DriftReport,
    *,
    timeout_s: float = evidently_worker.TIMEOUT_S,
) -> dict[str, str]:
    """Make the pages, store them, link them; the same report again goes to the same places.

    Evidently's only from severity `medium` on: it takes seconds, and rows of the log.

    Args:
        timeout_s: how long Evidently may take.

    Returns:
        What -> address; `problems` says what could not be made.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    known = _made_already(services, report)
    if known is not None:
        return known
    problems: list[str] = []
    behind = _behind(services, report)
    with services.store.publish_lock(), tempfile.TemporaryDirectory(prefix="headgate-drift-") as folder:
        made = Path(folder) / "pages"
        made.mkdir()
        (made / "report.json").write_bytes(_as_bytes(report))
        if at_least(report.severity, "medium"):
            _evidently(services, report, behind, Path(folder), made, timeout_s, problems)
        links = _draw_and_store(services, report, behind, made, problems)
    if problems:
        links[PROBLEMS] = " ".join(problems)
    services.store.link_drift_report(report.tenant, report.model, report.day, links)
    return links


def _made_already(services: "Services", report: DriftReport) -> dict[str, str] | None:
    """The links of the very same report, if all its pages are there."""
    kept = services.store.drift_report(report.tenant, report.model, report.day)
    wanted = set(FILES) if at_least(report.severity, "medium") else {"page", "picture", "report"}
    if kept is None or set(kept.links) != wanted | {RUN}:
        return None
    try:
        is_same = services.artifacts.get(f"{_folder(report)}/report.json") == _as_bytes(report)
    except HeadgateError:
        return None
    return dict(kept.links) if is_same else None


def _folder(report: DriftReport) -> str:
    return f"reports/{key_part(report.tenant)}/{key_part(report.model)}/{report.day}"


def _as_bytes(report: DriftReport) -> bytes:
    return json.dumps(report.to_json(), indent=1, sort_keys=True).encode()


def _draw_and_store(
    services: "Services", report: DriftReport, behind: Behind, made: Path, problems: list[str]
) -> dict[str, str]:
    """Draw the page with its links on it, then put every file where those point."""
    folder = _folder(report)
    wanted = [
        name for name, (file, _) in FILES.items() if name in ("page", "picture") or (made / file).exists()
    ]
    links = {name: services.artifacts.url(f"{folder}/{FILES[name][0]}") for name in wanted}
    facts = facts_of(
        report, behind, {name: at for name, at in links.items() if name not in ("page", "picture")}
    )
    (made / "page.png").write_bytes(page.png(facts))
    (made / "page.html").write_text(page.html(facts))
    for name in wanted:
        file, content_type = FILES[name]
        try:
            services.artifacts.put(f"{folder}/{file}", made / file, content_type)
        except HeadgateError as err:
            links.pop(name)
            problems.append(f"{file} was not stored: {err}.")
    try:
        links[RUN] = log_run(services.settings.required("mlflow_uri"), report, made)
    except HeadgateError as err:
        problems.append(f"no run in MLflow: {err}.")
    for problem in problems:
        logger.warning("pages of %s of %s, %s: %s", report.model, report.tenant, report.day, problem)
    return links


def _evidently(
    services: "Services",
    report: DriftReport,
    behind: Behind,
    work: Path,
    made: Path,
    timeout_s: float,
    problems: list[str],
) -> None:
    """Evidently's report of sampled rows; a crash, a hang or missing rows are no more than a problem."""
    key, grid = (report.tenant, report.model), behind.grid
    if grid is None:
        return
    try:
        for file, span in (
            (evidently_worker.CURRENT, report.window),
            (evidently_worker.REFERENCE, report.baseline),
        ):
            days = [day for day in sorted(behind.days) if span is not None and span[0] <= day <= span[1]]
            if file == evidently_worker.REFERENCE:
                days = spread(days)
            columns = sample(services, key, days, grid)
            if not any(len(column) for column in columns.values()):
                raise NotFoundError(
                    "logged rows of", f"{key[1]} of {key[0]}", f"{span} left the log and the archive"
                )
            evidently_worker.write_rows(work / file, columns)
        order = evidently_worker.Order(
            what=f"{report.model} of {report.tenant} on {report.day}",
            folder=str(work),
            numeric=tuple(one.name for one in grid.columns if one.kind == "number"),
            text=tuple(one.name for one in grid.columns if one.kind == "text"),
        )
        found = evidently_worker.run(order, timeout_s=timeout_s)
    except HeadgateError as err:
        problems.append(f"{err}.")
        return
    found.html.rename(made / found.html.name)
    found.json.rename(made / found.json.name)


def _behind(services: "Services", report: DriftReport) -> Behind:
    """What the page draws on."""
    store, key = services.store, (report.tenant, report.model)
    first = min(report.day - HISTORY, report.baseline[0] if report.baseline else report.day)
    history: Sequence[DriftReport] = [
        one.report for one in store.drift_history(*key, report.day - HISTORY, report.day)
    ]
    return Behind(
        grid=store.grid(*key, report.day),
        days=store.days(*key, first, report.day),
        performance=[
            one for one in store.performance(report.model, report.tenant, first) if one.day <= report.day
        ],
        history=history,
    )
