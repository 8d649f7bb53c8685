"""How a component is called, as coloured code."""

from __future__ import annotations

from markupsafe import Markup

from neurarium.lab.reference import Symbol

_WIDTH = 88


def signature(symbol: Symbol) -> Markup:
    """``name(parameters) -> what comes back``, a parameter per line where one line is too narrow."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    returned = f" -> {symbol.returns}" if symbol.returns and symbol.returns != "None" else ""
    text = f"{symbol.name}({', '.join(symbol.parameters)}){returned}"
    if len(text) > _WIDTH and symbol.parameters:
        text = f"{symbol.name}(\n" + "".join(f"    {p},\n" for p in symbol.parameters) + f"){returned}"
    return Markup(highlight(text, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip())
