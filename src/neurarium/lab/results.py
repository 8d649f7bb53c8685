"""Results kept in the repository: ``results/<slug>.json``, and the tables generated from them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurarium.lab.claims import Verdict
from neurarium.lab.fingerprint import fingerprint
from neurarium.lab.registry import Entry, entries
from neurarium.lab.runner import Finding
from neurarium.lab.trial import finite

PACKAGE = Path(__file__).resolve().parents[1]


def results_folder() -> Path:
    """Where results are kept: beside the sources in a checkout, inside an installed package."""
    checkout = PACKAGE.parents[1] / "results"
    return checkout if checkout.is_dir() else PACKAGE / "results"


def summary(finding: Finding) -> dict[str, Any]:
    """A finding as plain JSON values: arms with intervals, claims with verdicts, seconds."""
    return {
        "study": finding.entry.slug,
        "scale": finding.scale,
        "arms": {
            arm: {
                name: {"mean": finite(ci.mean), "low": finite(ci.low), "high": finite(ci.high), "n": ci.n}
                for name, ci in finding.intervals(arm).items()
            }
            for arm in finding.trials
        },
        "claims": [
            {"text": claim.text, "source": claim.source, "predicate": str(claim.predicate), **_verdict(verdict)}
            for claim, verdict in zip(finding.study.claims, finding.verdicts, strict=True)
        ],
        "seconds": round(finding.seconds, 2),
    }


def _verdict(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {"verdict": None, "estimate": None, "low": None, "high": None, "margin": None, "n": 0}
    return {
        "verdict": verdict.outcome,
        "estimate": finite(verdict.estimate),
        "low": finite(verdict.low),
        "high": finite(verdict.high),
        "margin": verdict.margin,
        "relation": verdict.relation,
        "n": verdict.n,
    }


def save(finding: Finding, folder: Path | None = None) -> Path:
    """Write ``<slug>.json`` (settings, intervals, verdicts, cost, machine, fingerprint) and return its path."""
    paper = finding.study.paper
    done = [o for seeds in finding.trials.values() for o in seeds.values() if o.status == "done"]
    content = {
        **summary(finding),
        "title": paper.title,
        "authors": paper.authors,
        "year": paper.year,
        "arxiv": paper.arxiv,
        "room": finding.entry.room,
        "scope": finding.study.scope,
        "assumption": finding.study.assumption,
        "settings": finding.settings,
        "seeds": {arm: sorted(seeds) for arm, seeds in finding.trials.items()},
        "arm_seconds": {
            arm: round(sum(o.wall for o in seeds.values()) / len(seeds), 3) for arm, seeds in finding.trials.items()
        },
        "cpu_seconds": round(sum(o.cpu for o in done), 2),
        "peak_memory": max((o.peak_memory for o in done), default=0),
        "environment": done[0].environment if done else {},
        "fingerprint": finding.fingerprint,
        "date": time.strftime("%Y-%m-%d"),
    }
    folder = folder or results_folder()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{finding.entry.slug}.json"
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def saved(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """Slug -> saved result."""
    folder = folder or results_folder()
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


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
