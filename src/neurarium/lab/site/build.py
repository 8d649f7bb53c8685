"""Writing the site: one page per paper, an overview, and the files they share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from neurarium.lab.errors import RequestError
from neurarium.lab.site.charts import chart, colours
from neurarium.lab.site.content import PaperPage
from neurarium.lab.site.intervals import interval_plot
from neurarium.lab.site.text import address, duration, file_name, number, prose, script, setting, words

VERDICTS = ("reproduced", "undecided", "not reproduced", "not run")
_SHARED = ("static/site.css", "static/site.js")
_DRAWING = ("static/figures.js", "vendor/echarts.min.js", *(f"vendor/{name}.txt" for name in (
    "LICENSE-echarts", "NOTICE-echarts", "LICENSE-zrender", "LICENSE-d3",
)))  # fmt: skip


def build_site(pages: Sequence[PaperPage], folder: Path, *, version: str) -> Path:
    """Write the site into a folder (made where missing) and return its ``index.html``.

    Args:
        pages: one per study; their slugs must give different file names.
        folder: where to write. Files of the same names are replaced, others are left alone.
        version: of neurarium, for the footer.

    Raises:
        RequestError: the folder cannot be written, or two pages have one slug.
    """
    names = [file_name(page.slug).lower() for page in pages]
    if len(set(names)) != len(names):
        raise RequestError("two pages of the report have the same slug")
    environment = _environment(version)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = False
        for i, page in enumerate(pages):
            charts = [
                found
                for figure, curves in zip(page.figures, page.curves or [{}] * len(page.figures), strict=True)
                if (found := chart(page, figure, curves)) is not None
            ]
            drawn = drawn or bool(charts)
            before, after = (pages[j] if 0 <= j < len(pages) else None for j in (i - 1, i + 1))
            text = environment.get_template("paper.html").render(
                **_paper(page), charts=charts, before=before, after=after
            )
            (folder / file_name(page.slug)).write_text(text, encoding="utf-8")
        text = environment.get_template("index.html").render(**_overview(pages))
        (folder / "index.html").write_text(text, encoding="utf-8")
        _copy(_SHARED + _DRAWING if drawn else _SHARED, folder)
    except OSError as error:
        raise RequestError(f"the report cannot be written to {folder}: {error.strerror or error}") from error
    return folder / "index.html"


def _environment(version: str) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neurarium.lab.site"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (address, duration, file_name, number, prose, script, setting, words)
    environment.filters.update({function.__name__: function for function in filters})
    environment.globals.update(version=version, verdicts=VERDICTS)
    return environment


def _copy(names: Sequence[str], folder: Path) -> None:
    for name in names:
        with as_file(files("neurarium.lab.site") / name) as source:
            shutil.copyfile(source, folder / source.name)


def _overview(pages: Sequence[PaperPage]) -> dict[str, Any]:
    rows = [_row(page) for page in pages]
    return {
        "rows": rows,
        "rooms": sorted({page.room for page in pages if page.room}),
        "counts": {verdict: sum(row["counts"][verdict] for row in rows) for verdict in VERDICTS},
        "claims": sum(len(page.claims) for page in pages),
        "seconds": sum(page.seconds_total for page in pages),
    }


def _row(page: PaperPage) -> dict[str, Any]:
    outcomes = [claim.verdict or "not run" for claim in page.claims]
    counts = {verdict: outcomes.count(verdict) for verdict in VERDICTS}
    judged = len(outcomes) - counts["not run"]
    return {
        "page": page,
        "counts": counts,
        "share": counts["reproduced"] / judged if judged else "",
        "found": [verdict for verdict in VERDICTS if counts[verdict]] or ["not run"],
        "searched": " ".join([page.slug, page.title, page.authors, page.room, page.summary]).lower(),
    }


def _paper(page: PaperPage) -> dict[str, Any]:
    settings = [dict(arm.settings) for arm in page.arms]
    names = list(dict.fromkeys(name for row in settings for name in row))
    differing = [name for name in names if len({repr(row.get(name)) for row in settings}) > 1]
    return {
        "page": page,
        "paragraphs": [" ".join(part.split()) for part in page.description.split("\n\n") if part.strip()],
        "colours": colours(page),
        "claims": [(claim, interval_plot(claim)) for claim in page.claims],
        "metrics": list(dict.fromkeys(name for arm in page.arms for name in arm.metrics)),
        "differing": differing,
        "common": {name: settings[0][name] for name in names if name not in differing} if settings else {},
    }
