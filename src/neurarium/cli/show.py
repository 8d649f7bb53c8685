"""``neurarium show``: what a study tests, where its code is, and what it last found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from neurarium.cli.tables import STYLES, print_rows
from neurarium.lab.archive import saved
from neurarium.lab.fingerprint import PACKAGE, closure, fingerprint
from neurarium.lab.registry import Entry
from neurarium.lab.study import SCALES
from neurarium.lab.trial import plain


def description(entry: Entry) -> dict[str, Any]:
    """Everything `show` tells, as plain values."""
    study, paper = entry.load(), entry.paper()
    result = saved().get(entry.slug) if entry.room else None
    verdicts = {c["text"]: c for c in result["claims"]} if result else {}
    return {
        "slug": entry.slug,
        "title": paper.title,
        "authors": paper.authors,
        "year": paper.year,
        "url": paper.url,
        "room": entry.room,
        "about": entry.docstring(),
        "study": str(entry.path),
        "components": components(entry),
        "arms": {arm: plain(study.arm(arm).settings) for arm in study.arms},
        "scales": [scale for scale in SCALES if scale in study.scales or scale == "small"],
        "scope": study.scope,
        "assumption": study.assumption,
        "claims": [
            {
                "text": claim.text,
                "source": claim.source,
                "predicate": str(claim.predicate),
                "verdict": verdicts.get(claim.text, {}).get("verdict"),
                "estimate": verdicts.get(claim.text, {}).get("estimate"),
            }
            for claim in study.claims
        ],
        "seconds": result["seconds"] if result else None,
        "stale": result is not None and result["fingerprint"] != fingerprint([entry.path]),
    }


def components(entry: Entry) -> list[str]:
    """Files of the rooms that the study stands on, as paths inside the package."""
    ground = ("neurarium.lab", "neurarium.studies", "neurarium.data", "neurarium.training")
    return [
        str(Path("neurarium") / path.relative_to(PACKAGE))
        for label, path in sorted(closure([entry.path]).items())
        if path.is_relative_to(PACKAGE) and not label.startswith(ground)
    ]


def print_description(console: Console, content: dict[str, Any]) -> None:
    """The description for a person."""
    console.print(f"[bold]{escape(content['title'])}[/bold]  {escape(content['authors'])}, {content['year']}")
    if content["url"]:
        console.print(content["url"])
    console.print(f"\n{escape(content['about'])}\n")
    console.print("study       " + content["study"], highlight=False)
    console.print("components  " + "\n            ".join(content["components"] or ["none"]), highlight=False)
    if content["assumption"]:
        console.print(f"scope       {content['scope']}: {escape(content['assumption'])}")
    cost = f"{content['seconds']:.0f} s of trials" if content["seconds"] is not None else "not measured yet"
    console.print(f"cost        {cost}{' (the code has changed since)' if content['stale'] else ''}\n", highlight=False)
    console.print("[bold]Claims[/bold]")
    for claim in content["claims"]:
        verdict = claim["verdict"] or "not run"
        style = STYLES.get(verdict, "dim")
        console.print(f"  [{style}]{verdict}[/{style}]  {escape(claim['text'])} ({escape(claim['source'])})")
        console.print(f"      {escape(claim['predicate'])}", style="dim", highlight=False)
    console.print("\n[bold]Arms[/bold]")
    rows = [{"arm": arm, **settings} for arm, settings in content["arms"].items()]
    differing = [name for name in rows[0] if len({str(row[name]) for row in rows}) > 1]
    print_rows(console, rows, dict.fromkeys(["arm", *differing]))
    same = {name: value for name, value in rows[0].items() if name not in differing and name != "arm"}
    if same:
        console.print("in every arm: " + ", ".join(f"{name}={value}" for name, value in same.items()), highlight=False)
    console.print(f"\nRun it: neurarium run {content['slug'] if content['room'] else content['study']}")


def own_data(path: str, target: str, drop: list[str], keep: list[str], missing: str) -> dict[str, Any]:
    """What a file or folder of the user's is turned into: examples, inputs, classes, and a line for each column."""
    from neurarium.data import load

    split = load(path, target=target or None, drop=drop, keep=keep, missing=missing)  # type: ignore[arg-type]
    parts = {"training": split.train, "validation": split.validation, "test": split.test}
    return {
        "name": split.name,
        "examples": ", ".join(f"{len(part):,} for {name}" for name, part in parts.items()),
        "inputs": " x ".join(map(str, split.train.x.shape[1:])),
        "target": f"{len(split.classes)} classes" if split.classes else "a quantity",
        **split.notes,
    }
