"""What data can be refused for, and the nearest name for one that was not found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """Data cannot be used as they are; the message is one sentence that names the file, column or argument."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that offers the known name nearest to ``name``, or lists the known ones where none is near."""
    names = [str(one) for one in known]
    close = difflib.get_close_matches(name.casefold(), [one.casefold() for one in names], n=1, cutoff=0.6)
    if close:
        return f"did you mean {next(one for one in names if one.casefold() == close[0])!r}?"
    shown = ", ".join(repr(one) for one in names[:12]) + (", ..." if len(names) > 12 else "")
    return f"there are {shown}"
