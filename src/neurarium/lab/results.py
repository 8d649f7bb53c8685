"""The tables that are generated from saved results, and where they stand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurarium.lab.archive import saved as saved
from neurarium.lab.fingerprint import fingerprint
from neurarium.lab.registry import Entry, entries


def is_stale(result: Mapping[str, Any], entry: Entry) -> bool:
    """Whether a definition that the study's trial reaches has changed since the result was saved."""
    return bool(result["fingerprint"] != fingerprint([entry.path]))


STALE = "The code has changed since: `neurarium run {slug} --save` measures it again."
"""What a page says below a result that `is_stale`."""
VERDICTS = ("reproduced", "undecided", "not reproduced")


def overall(claims: list[Mapping[str, Any]]) -> str:
    """ "3/4 reproduced" and what the rest is; empty without a verdict."""
    outcomes = [claim["verdict"] for claim in claims if claim["verdict"]]
    if not outcomes:
        return ""
    parts = [f"{outcomes.count('reproduced')}/{len(outcomes)} reproduced"]
    parts += [f"{outcomes.count(v)} {v}" for v in VERDICTS[1:] if v in outcomes]
    return ", ".join(parts)


def overview_table(results: Mapping[str, Mapping[str, Any]], known: Mapping[str, Entry] | None = None) -> str:
    """The README's table: a row per paper with its verdicts and cost."""
    rows = ["| study | paper | claims | core-seconds |", "|---|---|---|---|"]
    for slug, entry in (known if known is not None else entries()).items():
        if slug in results:
            r = results[slug]
            title = f"[{r['title']}](https://arxiv.org/abs/{r['arxiv']}) ({r['year']})" if r["arxiv"] else r["title"]
            found = overall(r["claims"]) + (" (of earlier code)" if is_stale(r, entry) else "")
            rows.append(f"| [`{slug}`](docs/papers/{slug}.md) | {title} | {found} | {r['cpu_seconds']:.0f} |")
    return "\n".join(rows)


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
    """Every page with generated tables, as it should read: the README and the papers' pages."""
    results = saved(root / "results")
    pages = {root / "README.md": {"overview": overview_table(results)}}
    known = entries()
    for slug, result in results.items():
        stale = slug in known and is_stale(result, known[slug])
        pages[root / "docs" / "papers" / f"{slug}.md"] = {"verdicts": verdict_table(result, stale)}
    return {path: refresh(path.read_text(encoding="utf-8"), t) for path, t in pages.items() if path.exists()}
