"""Writing the site: an overview, a page per paper, the guides, a reference page per room, and the files they share."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from neurarium.lab.errors import RequestError
from neurarium.lab.figures import Curve
from neurarium.lab.reference import Room
from neurarium.lab.site import docstrings, markdown
from neurarium.lab.site.charts import chart, colours
from neurarium.lab.site.content import PaperPage
from neurarium.lab.site.intervals import interval_plot
from neurarium.lab.site.signatures import signature
from neurarium.lab.site.text import address, duration, file_name, number, prose, script, setting, words
from neurarium.lab.site.wall import Cell, wall

VERDICTS = ("reproduced", "undecided", "not reproduced", "not run")
COMPARISON = "compared"
"""The guide that has a place of its own in the navigation."""
_SHARED = ("static/site.css", "static/site.js")
_DRAWING = ("static/figures.js", "vendor/echarts.min.js", *(f"vendor/{name}.txt" for name in (
    "LICENSE-echarts", "NOTICE-echarts", "LICENSE-zrender", "LICENSE-d3",
)))  # fmt: skip


def build_site(
    pages: Sequence[PaperPage],
    folder: Path,
    *,
    version: str,
    guides: Mapping[str, str] | None = None,
    rooms: Sequence[Room] = (),
    sources: Path | None = None,
) -> Path:
    """Write the site into a folder (made where missing) and return its ``index.html``.

    Args:
        pages: one per study; their slugs must give different file names.
        folder: where to write. Files of the same names are replaced, others are left alone.
        version: of neurarium, for the footer.
        guides: name -> Markdown.
        rooms: for the reference.
        sources: the checkout that relative links of written pages lead into; None where there is none.

    Raises:
        RequestError: the folder cannot be written, or two pages have one slug.
    """
    names = [file_name(page.slug).lower() for page in pages]
    if len(set(names)) != len(names):
        raise RequestError("two pages of the report have the same slug")
    site = _Site(pages, guides or {}, rooms, sources, version)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn = False
        for name, (template, values) in site.files().items():
            drawn = drawn or bool(values.get("charts"))
            (folder / name).write_text(site.environment.get_template(template).render(**values), encoding="utf-8")
        _copy(_SHARED + _DRAWING if drawn else _SHARED, folder)
    except OSError as error:
        raise RequestError(f"the report cannot be written to {folder}: {error.strerror or error}") from error
    return folder / "index.html"


class _Site:
    """What all pages share: the environment of the templates, the names that links may use."""

    def __init__(
        self,
        pages: Sequence[PaperPage],
        guides: Mapping[str, str],
        rooms: Sequence[Room],
        sources: Path | None,
        version: str,
    ) -> None:
        self.pages, self.guides, self.rooms, self.sources = pages, guides, rooms, sources
        self.known = {(room.name, symbol.name) for room in rooms for symbol in room.symbols}
        # a recipe may be named as what it applies: the component is meant
        order = sorted(self.known, key=lambda pair: (pair[0] != "recipes", pair))
        self.links = {name: f"{room_file(room)}#{name}" for room, name in order}
        self.environment = _environment(version, self.links)
        nav = [("index.html", "Papers", "papers")]
        nav += [("reference.html", "Reference", "reference")] if rooms else []
        first = next((name for name in guides if name != COMPARISON), None)
        nav += [(guide_file(first), "Guides", "guides")] if first else []
        nav += [(guide_file(COMPARISON), "Comparison", COMPARISON)] if COMPARISON in guides else []
        self.environment.globals.update(
            nav=nav if len(nav) > 1 else [], here="", rooms={room.name for room in rooms}, chr10="\n"
        )

    def files(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """File name -> template and its values."""
        found: dict[str, tuple[str, dict[str, Any]]] = {"index.html": ("index.html", _overview(self.pages))}
        for i, page in enumerate(self.pages):
            before, after = (self.pages[j] if 0 <= j < len(self.pages) else None for j in (i - 1, i + 1))
            found[file_name(page.slug)] = ("paper.html", {**self._paper(page), "before": before, "after": after})
        for name, text in self.guides.items():
            found[guide_file(name)] = ("written.html", self._guide(name, text))
        if self.rooms:
            counted = {room.name: sum(page.room == room.name for page in self.pages) for room in self.rooms}
            found["reference.html"] = ("reference.html", {"every_room": self.rooms, "papers_of": counted})
        for room in self.rooms:
            papers = [_row(page) for page in self.pages if page.room == room.name]
            found[room_file(room.name)] = ("room.html", {"room": room, "papers": papers})
        return found

    def _guide(self, name: str, text: str) -> dict[str, Any]:
        alone = name == COMPARISON
        others = [(guide_file(n), markdown.title(t), n) for n, t in self.guides.items() if n != COMPARISON]
        return {
            "title": markdown.title(text),
            "written": name,
            "parts": markdown.headings(text),
            "body": self._render(re.sub(r"^# .*\n", "", text, count=1, flags=re.MULTILINE), "docs/guides"),
            "siblings": [] if alone else others,
            "here": COMPARISON if alone else "guides",
        }

    def _paper(self, page: PaperPage) -> dict[str, Any]:
        settings = [dict(arm.settings) for arm in page.arms]
        names = list(dict.fromkeys(name for row in settings for name in row))
        differing = [name for name in names if len({repr(row.get(name)) for row in settings}) > 1]
        figures = zip(page.figures, page.curves or [{}] * len(page.figures), strict=True)
        return {
            "page": page,
            "charts": [drawn for figure, curves in figures if (drawn := chart(page, figure, curves)) is not None],
            "seeds_drawn": _seeds_drawn(page),
            "names": [
                (room, name) for room, name in page.names if self.links.get(name, "").startswith(room_file(room))
            ],
            "paragraphs": [" ".join(part.split()) for part in page.description.split("\n\n") if part.strip()],
            "colours": colours(page),
            "claims": [(claim, interval_plot(claim)) for claim in page.claims],
            "metrics": list(dict.fromkeys(name for arm in page.arms for name in arm.metrics)),
            "differing": differing,
            "common": {name: settings[0][name] for name in names if name not in differing} if settings else {},
            "use": self._render(page.use, "docs/papers") if page.use else "",
            "found": self._render(page.found, "docs/papers") if page.found else "",
            "example": markdown.code(page.example) if page.example else "",
        }

    def _render(self, text: str, folder: str) -> Any:
        return markdown.render(text, lambda target: self._resolve(target, folder))

    def _resolve(self, target: str, folder: str) -> str:
        """Where a link of a written page in ``folder`` leads on the site."""
        if re.match(r"[a-z]+:", target):
            return address(target)
        path, hash_, part = target.partition("#")
        if not path:
            return target
        name = Path(path).name.removesuffix(".md")
        if path.endswith(".md"):
            if name.lower() in self.guides:
                return guide_file(name.lower()) + hash_ + part
            if any(page.slug == name for page in self.pages):
                return file_name(name)
            if name in ("README", "results"):
                return "index.html"
        inside = self.sources / folder / path if self.sources is not None else None
        return inside.resolve().as_uri() if inside is not None and inside.exists() else ""


def guide_file(name: str) -> str:
    """The file of a guide."""
    return f"guide-{name}.html"


def room_file(name: str) -> str:
    """The file of a room's reference."""
    return f"room-{name}.html"


def _environment(version: str, links: Mapping[str, str]) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("neurarium.lab.site"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (address, duration, file_name, number, prose, room_file, script, setting, signature, words)
    environment.filters.update({function.__name__: function for function in filters})
    environment.filters.update(
        parsed=docstrings.parse,
        body=lambda doc: docstrings.body(doc, links),
        inlined=lambda text: markdown.inline(" ".join(text.split()), links),
        first_paragraph=lambda text: markdown.inline(" ".join(docstrings.parse(text).first.split()), links),
    )
    environment.globals.update(version=version, verdicts=VERDICTS)
    return environment


def _copy(names: Sequence[str], folder: Path) -> None:
    for name in names:
        with as_file(files("neurarium.lab.site") / name) as source:
            shutil.copyfile(source, folder / source.name)


def _seeds_drawn(page: PaperPage) -> int:
    """How many seeds the curves show, where that is fewer than every arm has; 0 where it need not be said."""
    shown = max(
        (len(by_seed) for figure, curves in zip(page.figures, page.curves, strict=False)
         if isinstance(figure, Curve) for by_seed in curves.values()), default=0,
    )  # fmt: skip
    least = min((spread[3] for arm in page.arms for spread in arm.metrics.values()), default=0)
    return shown if 0 < shown < least else 0


def _overview(pages: Sequence[PaperPage]) -> dict[str, Any]:
    rows = [_row(page) for page in pages]
    return {
        "rows": rows,
        "rooms_with_papers": sorted({page.room for page in pages if page.room}),
        "counts": {verdict: sum(row["counts"][verdict] for row in rows) for verdict in VERDICTS},
        "claims": sum(len(page.claims) for page in pages),
        "seconds": sum(page.seconds_total for page in pages),
        "picture": _picture(pages),
    }


def _picture(pages: Sequence[PaperPage]) -> Markup:
    cells = [Cell(p.slug, p.title, p.figures, p.curves, [claim.verdict for claim in p.claims]) for p in pages]
    return Markup(wall(cells, {page.slug: quote(file_name(page.slug)) for page in pages}))


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
