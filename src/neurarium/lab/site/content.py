"""What the site shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurarium.lab.figures import Figure

Spread = tuple[float | None, float | None, float | None, int]
"""Mean, lower and upper end of the 95 % interval, number of seeds."""


@dataclass(frozen=True)
class ClaimRow:
    """A claim with its verdict (None where it was not judged), the paper's own number, and what a run of yours says."""

    text: str
    source: str
    predicate: str
    verdict: str | None
    estimate: float | None
    low: float | None
    high: float | None
    margin: float | None
    relation: str
    n: int
    published: str = ""
    here: str = ""


@dataclass(frozen=True)
class ArmRow:
    """An arm with its settings, its metrics over seeds and its cost."""

    name: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, Spread]
    seconds: float
    peak_memory_mb: float


@dataclass(frozen=True)
class PaperPage:
    """Everything on a paper's page.

    Args:
        slug: name of the study and of the page's file.
        title: of the paper.
        authors: of the paper.
        year: of the paper.
        arxiv: identifier, or empty.
        room: room of the component, or empty.
        summary: the finding in a sentence.
        description: paragraphs of plain text.
        claims: in the study's order.
        arms: in the study's order.
        figures: what to draw.
        curves: what each figure draws of the recorded rows: arm -> seed -> rows.
        environment: versions and machine.
        components: (name, address of the source) of what the study stands on.
        code_url: address of the study's source.
        scale: at which the numbers were made.
        scope: of the verdicts.
        assumption: behind a scope of "mechanism".
        seconds_total: of all trials.
        fingerprint: of the code.
        stale: the code has changed since.
        failures: (arm, seed, last line of the traceback).
        use: Markdown: what the idea is, when to use it, how.
        found: Markdown: what was found, and notes.
        example: a runnable script.
        names: (room, name) of the components that the study imports.
    """

    slug: str
    title: str
    authors: str
    year: int
    arxiv: str
    room: str
    summary: str
    description: str
    claims: Sequence[ClaimRow]
    arms: Sequence[ArmRow]
    figures: Sequence[Figure]
    curves: Sequence[Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]]
    environment: Mapping[str, str]
    components: Sequence[tuple[str, str]]
    code_url: str
    scale: str
    scope: str
    assumption: str
    seconds_total: float
    fingerprint: str
    stale: bool
    failures: Sequence[tuple[str, int, str]]
    use: str = ""
    found: str = ""
    example: str = ""
    names: Sequence[tuple[str, str]] = ()
