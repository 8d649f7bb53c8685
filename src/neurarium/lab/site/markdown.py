"""Markdown pages as HTML: tables, headings with anchors, coloured Python, links that lead to the site's own pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

Resolve = Callable[[str], str]
"""A link's target as it is written -> as it is on the site; empty where it leads nowhere there."""


def render(text: str, resolve: Resolve) -> Markup:
    """A page, or a part of one, as HTML; comments are left out, and HTML other than a line's break is shown as text."""
    engine = _engine()
    tokens = engine.parse(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))
    _visit(tokens, resolve)
    return Markup(engine.renderer.render(tokens, engine.options, {}).replace("&lt;br&gt;", "<br>"))


def code(text: str, language: str = "python") -> Markup:
    """A piece of code with its words marked by kind."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False)
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return Markup(
        f'<pre class="code" tabindex="0"><code>{highlight(text, lexer, HtmlFormatter(nowrap=True))}</code></pre>'
    )


@cache
def _engine() -> Any:
    from markdown_it import MarkdownIt

    engine = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    engine.add_render_rule(
        "fence", lambda self, tokens, i, options, env: code(tokens[i].content, tokens[i].info.strip())
    )
    for side, inside in (("open", '<div class="scroll" tabindex="0"><table>'), ("close", "</table></div>")):
        engine.add_render_rule(f"table_{side}", lambda self, tokens, i, options, env, inside=inside: inside)
    return engine


def _visit(tokens: list[Any], resolve: Resolve) -> None:
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(tokens[i + 1].content))
        elif token.type == "link_open":
            target = resolve(str(token.attrGet("href") or ""))
            if target:
                token.attrSet("href", target)
            else:  # the words stay, without the link
                token.tag = "span"
                token.attrs = {}
                close = next(t for t in tokens[i:] if t.type == "link_close")
                close.tag = "span"
        elif token.type == "code_inline" and re.search(r" [−/] ", token.content):
            token.attrSet("class", "test")
        if token.children:
            _visit(token.children, resolve)


def anchor(heading: str) -> str:
    """The id of a heading."""
    return quote(re.sub(r"[^\w]+", "-", heading.lower()).strip("-"))


def headings(text: str) -> dict[str, str]:
    """Anchor -> text of the headings of second order."""
    bare = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return {anchor(found): found for found in re.findall(r"^## (.+)$", bare, flags=re.MULTILINE)}


def title(text: str) -> str:
    """The heading of first order."""
    found = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
    return found[1] if found else ""


def inline(text: str, links: Mapping[str, str] | None = None) -> Markup:
    """A docstring's text: what stands between backticks is code, linked where its name is known."""

    def replaced(found: re.Match[str]) -> str:
        name = found[2]
        target = (links or {}).get(name.removesuffix("()"))
        written = f"<code>{name}</code>"
        return f'<a href="{escape(target)}">{written}</a>' if target else written

    return Markup(re.sub(r"(`+)([^`]+)\1", replaced, str(escape(text))))
