"""The tables that are generated from saved results, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurarium.lab.archive import load_finding
from neurarium.lab.archive import saved as saved
from neurarium.lab.fingerprint import fingerprint
from neurarium.lab.registry import Entry, entries


def is_stale(result: Mapping[str, Any], entry: Entry) -> bool:
    """Whether a definition that the study's trial reaches has changed since the result was saved."""
    return bool(result["fingerprint"] != fingerprint([entry.path]))


STALE = "The code has changed since: `neurarium run {slug} --save` measures it again."
"""What a page says below a result that `is_stale`."""
VERDICTS = ("reproduced", "undecided", "not reproduced")
_ROOMS = {
    "agents": "language models that plan, judge and are judged",
    "compression": "making networks smaller: pruning, distillation, nested networks",
    "continual": "learning one thing after another without forgetting",
    "data": "what and in which order a network is shown",
    "layers": "building blocks",
    "learning": "learning rules beside and beyond backpropagation",
    "models": "whole networks and what their weights hold",
    "objectives": "losses and regularizers",
    "probes": "looking into networks and their training",
    "reasoning": "rules, programs, proofs, graphs of knowledge",
    "search": "search over architectures and programs",
    "speech": "speech and sequences aligned in time",
    "theory": "what can be solved on paper",
    "training": "the loop around the network",
}


def overall(claims: list[Mapping[str, Any]]) -> str:
    """ "3/4 reproduced" and what the rest is; empty without a verdict."""
    outcomes = [claim["verdict"] for claim in claims if claim["verdict"]]
    if not outcomes:
        return ""
    parts = [f"{outcomes.count('reproduced')}/{len(outcomes)} reproduced"]
    parts += [f"{outcomes.count(v)} {v}" for v in VERDICTS[1:] if v in outcomes]
    return ", ".join(parts)


def room_table(results: Mapping[str, Mapping[str, Any]], known: Mapping[str, Entry]) -> str:
    """The README's table: a row per room with its papers, their claims by verdict, and the cost."""
    rows = [
        "| room | its papers are about | papers | claims | reproduced | undecided | not reproduced | core-minutes |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for slug, entry in known.items():
        if slug in results:
            groups.setdefault(entry.room, []).append(results[slug])
    every = [r for group in groups.values() for r in group]
    for room, kept in [*sorted(groups.items()), ("", every)]:
        outcomes = [claim["verdict"] for r in kept for claim in r["claims"] if claim["verdict"]]
        counts = " | ".join(str(outcomes.count(verdict)) for verdict in VERDICTS)
        minutes = sum(r["cpu_seconds"] for r in kept) / 60
        name, about = (f"[`{room}`](docs/results.md#{room})", _ROOMS.get(room, "")) if room else ("**all**", "")
        rows.append(f"| {name} | {about} | {len(kept)} | {len(outcomes)} | {counts} | {minutes:.0f} |")
    return "\n".join(rows)


def overview_table(results: Mapping[str, Mapping[str, Any]], known: Mapping[str, Entry]) -> str:
    """The table of ``docs/results.md``: room by room a row per paper with its verdicts and cost."""
    parts = []
    for room in sorted({entry.room for entry in known.values()}):
        rows = [f"## {room}\n", "| study | paper | claims | core-seconds |", "|---|---|---|---:|"]
        for slug, entry in known.items():
            if slug in results and entry.room == room:
                r = results[slug]
                title = f"[{r['title']}](https://arxiv.org/abs/{r['arxiv']})" if r["arxiv"] else r["title"]
                found = overall(r["claims"]) + (" (of earlier code)" if is_stale(r, entry) else "")
                cells = (f"[`{slug}`](papers/{slug}.md)", f"{title} ({r['year']})", found, f"{r['cpu_seconds']:.0f}")
                rows.append(f"| {' | '.join(cells)} |")
        if len(rows) > 3:
            parts.append("\n".join(rows))
    return "\n\n".join(parts)


def verdict_table(result: Mapping[str, Any], stale: bool = False) -> str:
    """A paper's table: a row per claim with its interval and verdict, and how, where and of which code it was found."""
    rows = ["| claim | paper | test | measured (95 % interval) | seeds | verdict |", "|---|---|---|---|---|---|"]
    for c in result["claims"]:
        found = "–" if c["estimate"] is None else f"{c['estimate']:.3g} [{_limit(c['low'])}, {_limit(c['high'])}]"
        test = c["predicate"].replace("|", "\\|")
        rows.append(
            f"| {c['text']} | {c['source']} | `{test}` | {found} | {c['n']} | **{c['verdict'] or 'not run'}** |"
        )
    scope = "" if result["scope"] == "measured" else f" Scope: {result['scope']}. {result['assumption']}"
    env = result["environment"]
    machine = f"{env.get('processor', '')}, {env.get('cores', '?')} cores, torch {env.get('torch', '?')}"
    rows.append(
        f"\nScale `{result['scale']}`, {result['cpu_seconds']:.0f} core-seconds on {machine}, {result['date']}.{scope}"
        + (" " + STALE.format(slug=result["study"]) if stale else "")
    )
    return "\n".join(rows)


def _limit(number: float | None) -> str:
    return "∞" if number is None else f"{number:.3g}"


def refresh(text: str, tables: Mapping[str, str]) -> str:
    """``text`` with what stands between ``<!-- NAME -->`` and ``<!-- /NAME -->`` replaced by the table of that name."""
    for name, table in tables.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if found and closed:
            text = f"{before}{start}{table}\n{end}{after}"
    return text


def documents(root: Path) -> dict[Path, str]:
    """Every file made from the results, as it should read: README, the table, the papers' pages, the picture."""
    from neurarium.lab.site.wall import cell_of, wall  # what listing studies does not need

    folder = root / "results"
    results, known = saved(folder), entries()
    pages = {
        root / "README.md": {"overview": room_table(results, known)},
        root / "docs" / "results.md": {"results": overview_table(results, known)},
    }
    for slug, result in results.items():
        stale = slug in known and is_stale(result, known[slug])
        pages[root / "docs" / "papers" / f"{slug}.md"] = {"verdicts": verdict_table(result, stale)}
    found = {path: refresh(path.read_text(encoding="utf-8"), t) for path, t in pages.items() if path.exists()}
    findings = [finding for slug in known if slug in results and (finding := load_finding(slug, folder)) is not None]
    return {**found, root / "docs" / "images" / "papers.svg": wall([cell_of(finding) for finding in findings])}
