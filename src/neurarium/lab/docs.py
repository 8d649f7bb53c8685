"""The written pages: where they are, in a checkout or an installed package, and what a paper's page consists of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from neurarium.lab.archive import PACKAGE, checkout


@dataclass(frozen=True)
class PaperText:
    """A paper's written page in its parts, as Markdown.

    Args:
        use: what the idea is, when to use it, and the snippet: all before the first heading of second order.
        found: what was found and the notes after it, without the generated table.
    """

    use: str
    found: str


def written(*parts: str) -> Path:
    """A file or folder of the documentation, which travels inside an installed package."""
    root = checkout()
    return (root or PACKAGE).joinpath(*parts)


def paper_text(slug: str) -> PaperText | None:
    """The page ``docs/papers/<slug>.md`` in its parts; None where nobody wrote one."""
    path = written("docs", "papers", f"{slug}.md")
    if not path.is_file():
        return None
    text = re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"\A# .*\n", "", text)
    text = re.sub(r"^\*\*What we found\.?\*\* *", "## What we found\n\n", text, flags=re.MULTILINE)
    use, heading, rest = re.split(r"^(## )", text + "\n## ", maxsplit=1, flags=re.MULTILINE)
    return PaperText(use.strip(), (heading + rest).removesuffix("\n## ").strip())


def example_text(slug: str) -> str:
    """The runnable script ``examples/<slug>.py``; empty where there is none."""
    path = written("examples", f"{slug.replace('-', '_')}.py")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def guides() -> dict[str, str]:
    """Name -> Markdown of every guide, of the benchmarks, and of the instructions for adding a paper."""
    order = ("run", "components", "data", "compare", "compared", "report", "benchmarks")
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(written("docs", "guides").glob("*.md"))}
    for name, path in (("benchmarks", written("docs", "benchmarks.md")), ("contributing", written("CONTRIBUTING.md"))):
        if path.is_file():
            found[name] = path.read_text(encoding="utf-8")
    return {name: found[name] for name in [*(n for n in order if n in found), *(n for n in found if n not in order)]}
