"""Docstrings in the form that this house writes them: paragraphs, then sections (Args, Returns, Raises, Example)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from markupsafe import Markup

from neurarium.lab.site.markdown import code, inline

_LISTS = ("Args", "Raises", "Attributes", "Shapes", "Yields")
_SECTION = re.compile(r"^(Args|Raises|Attributes|Shapes|Yields|Returns|Example|Examples|Shape|Note|References):$")


@dataclass(frozen=True)
class Docstring:
    """A docstring in its parts.

    Args:
        first: the first sentence or paragraph.
        paragraphs: what follows it, before the first section.
        sections: heading -> its lines, without their indentation.
    """

    first: str = ""
    paragraphs: list[str] = field(default_factory=list)
    sections: dict[str, str] = field(default_factory=dict)


def parse(text: str) -> Docstring:
    """Take a docstring apart."""
    sections: dict[str, list[str]] = {"": []}
    now = ""
    for line in inspect.cleandoc(text).splitlines():
        heading = _SECTION.match(line)
        if heading:
            now = heading[1]
            sections[now] = []
        elif now and line and not line.startswith(" "):
            now = ""
            sections[""] += ["", line]
        else:
            sections[now].append(line)
    first, *rest = ["\n".join(block) for block in _blocks(sections.pop(""))] or [""]
    return Docstring(first, rest, {name: inspect.cleandoc("\n" + "\n".join(lines)) for name, lines in sections.items()})


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def body(doc: Docstring, links: Mapping[str, str]) -> Markup:
    """A docstring as HTML, without its first paragraph."""
    parts = [_paragraph(text, links) for text in doc.paragraphs]
    for name, text in doc.sections.items():
        if name in ("Example", "Examples"):
            parts.append(Markup("<h5>Example</h5>") + code(text, "pycon" if ">>>" in text else "python"))
        elif name in _LISTS:
            rows = Markup("").join(
                Markup("<dt><code>{}</code></dt><dd>{}</dd>").format(term, inline(said, links))
                for term, said in items(text)
            )
            parts.append(
                Markup('<h5>{}</h5><dl class="args">{}</dl>').format({"Args": "Arguments"}.get(name, name), rows)
            )
        else:
            parts.append(Markup("<h5>{}</h5><p>{}</p>").format(name, inline(" ".join(text.split()), links)))
    return Markup("").join(parts)


def _paragraph(text: str, links: Mapping[str, str]) -> Markup:
    if ">>>" in text or all(line.startswith("    ") for line in text.splitlines()):
        return code(inspect.cleandoc("\n" + text), "pycon" if ">>>" in text else "python")
    lines = text.splitlines()
    if len(lines) > 1 and all(line.lstrip().startswith(("- ", "* ")) or line.startswith("  ") for line in lines):
        points = re.split(r"\n(?=[-*] )", text)
        listed = (Markup("<li>{}</li>").format(inline(" ".join(p[2:].split()), links)) for p in points)
        return Markup("<ul>{}</ul>").format(Markup("").join(listed))
    return Markup("<p>{}</p>").format(inline(" ".join(text.split()), links))


def items(text: str) -> Iterator[tuple[str, str]]:
    """(name, what is said of it) of a section that lists names; its lines that continue are indented."""
    for entry in re.split(r"\n(?=\S)", text):
        name, colon, said = entry.partition(":")
        if colon and len(name) < 60:
            yield name.strip().strip("`"), " ".join(said.split())
        elif entry.strip():
            yield "", " ".join(entry.split())
