"""What a column holds: numbers in one of the ways in which people write them, dates, or text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neurarium.data._errors import DataError
from neurarium.data.tables._read import GAPS

PLACEHOLDERS = frozenset(
    ["-", "--", "—", "–", ".", "..", "*", "n.a.", "na", "nil", "none", "missing", "unknown", "not available", "tbd"]
)
"""What stands for a missing number in a column that otherwise holds numbers."""

_MONEY = r"[$€£¥₹₽₩₺฿₴₪]|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|US\$|kr\.?|R\$|zł"
_NUMBER = re.compile(
    rf"(?P<bracket>\()?\s*(?P<sign>[-+−]?)\s*(?P<money>{_MONEY})?\s*(?P<inner>[-+−]?)"
    r"(?P<digits>\d[\d.,'’ \u00a0\u202f]*|[.,]\d+)(?P<power>[eE][-+]?\d+)?"
    rf"\s*(?P<unit>{_MONEY}|%|‰|°?[A-Za-zµ]{{1,8}})?\s*(?(bracket)\))"
)
_DURATION = re.compile(r"(?:(-?\d+) days?,? ?)?\+?(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?")
_DIGITS = {
    ".": re.compile(r"(\d{1,3}(?:([,'’ \u00a0\u202f])\d{3})(?:\2\d{3})*|\d*)(?:\.(\d*))?"),
    ",": re.compile(r"(\d{1,3}(?:([.'’ \u00a0\u202f])\d{3})(?:\2\d{3})*|\d*)(?:,(\d*))?"),
}

_DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d.%m.%y",
    "%m/%d/%y", "%d/%m/%y", "%b %d %Y", "%b %d, %Y", "%B %d %Y", "%B %d, %Y", "%d %b %Y", "%d %B %Y", "%d-%b-%Y",
    "%d-%b-%y", "%d/%b/%Y", "%d. %B %Y", "%a, %d %b %Y", "%Y-%m", "%b %Y", "%B %Y", "%m/%Y",
)  # fmt: skip
_CLOCKS = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S.%f",
    "T%H:%M",
    "T%H:%M:%S",
    "T%H:%M:%S.%f",
    " %I:%M %p",
    " %I:%M:%S %p",
)
_ZONES = ("", "%z", " %z")


@dataclass(frozen=True)
class Number:
    """Numbers; ``decimal`` separates the fraction, ``unit`` is what all values are written with."""

    decimal: str = "."
    unit: str = ""

    def __str__(self) -> str:
        unit = {"%": "per cent", "‰": "per mille"}.get(self.unit, self.unit)
        return "numbers" + (f" in {unit}" if unit else "") + (" with a decimal comma" if self.decimal == "," else "")

    def read(self, column: pd.Series) -> pd.Series:
        """The values in float64; one that is no such number is refused with a ``ValueError`` that holds it."""
        if column.dtype != "str" and column.dtype != object:
            return column.astype("float64")
        distinct = {}
        for text in column.dropna().unique():
            value, unit = parse_number(text, self.decimal)
            if value is None or (unit not in ("", self.unit) and not np.isnan(value)):
                raise ValueError(text)
            distinct[text] = value
        return column.map(distinct).astype("float64")


@dataclass(frozen=True)
class Date:
    """Dates and times; ``format`` is how text was read, empty where the file itself had dates."""

    format: str = ""

    def __str__(self) -> str:
        return "dates" + (f" written {self.format}" if self.format not in ("", "%Y-%m-%d") else "")

    def read(self, column: pd.Series) -> pd.Series:
        """The values as datetimes; one that is no such date is refused with a ``ValueError`` that holds it."""
        if column.dtype.kind == "M":
            return column
        dates = pd.to_datetime(column, format=self.format or "ISO8601", errors="coerce", utc=True)
        wrong = dates.isna() & column.notna() & ~column.isin(["0000-00-00", "00/00/0000"])
        if wrong.any():
            raise ValueError(column[wrong].iloc[0])
        return dates.dt.tz_localize(None)


@dataclass(frozen=True)
class Text:
    """Categories or text."""

    def __str__(self) -> str:
        return "text"

    def read(self, column: pd.Series) -> pd.Series:
        """The values as text without blanks around them."""
        return trimmed(column)


Kind = Number | Date | Text


def trimmed(column: pd.Series) -> pd.Series:
    """Text without blanks around it, gaps where nothing is left; truth values and numbers become text."""
    if column.dtype != "str":
        column = column.mask(column.isna(), None).map(str, na_action="ignore").astype("str")
    column = column.str.strip()
    return column.mask(column.isin(GAPS))


def infer(column: pd.Series, continental: bool, name: str, where: str, as_text: bool = False) -> Kind:
    """What a column holds.

    Args:
        column: as it was read.
        continental: whether a lone comma rather separates a fraction than thousands, and the day comes first.
        name: of the column.
        where: the file's name.
        as_text: let it be text also where nearly all values are numbers or dates.

    Raises:
        DataError: it is neither numbers, dates nor text, or nearly all values are numbers (or dates) and one is not.
    """
    if column.dtype.kind in "biuf":
        return Number()
    if column.dtype.kind == "M":
        return Date()
    examples = column.dropna()
    if not all(isinstance(value, str) for value in examples):
        what = type(next(value for value in examples if not isinstance(value, str))).__name__
        what = {"ndarray": "list", "dict": "struct", "bytes": "binary"}.get(what, what)
        raise DataError(f"{where}: column {name!r} is of type {what}; make it numbers or text, or leave it out (drop)")
    values = list(dict.fromkeys(trimmed(column).dropna()))
    if not values:
        return Text()
    orders: Sequence[str] = (",", ".") if continental else (".", ",")
    odd: dict[str, list[str]] = {}
    for decimal in orders:
        unit, odd[decimal] = units(values, decimal)
        if not odd[decimal]:
            return Number(decimal, unit)
    date, not_dates = date_format(values, continental)
    if date and not not_dates:
        return Date(date)
    if not as_text and len(values) >= 5:
        for wrong, what in ((min(odd.values(), key=len), "numbers"), (not_dates, "dates")):
            if 0 < len(wrong) <= 0.2 * len(values):
                row = int((trimmed(column) == wrong[0]).to_numpy().argmax()) + 1
                raise DataError(
                    f"{where}: column {name!r} holds {what} but for {wrong[0]!r} in row {row}; mend it, "
                    f"or leave the column out (drop) or take it as text (keep)"
                )
    return Text()


def units(values: Sequence[str], decimal: str) -> tuple[str, list[str]]:
    """The unit that numbers are written with, and the values that are no numbers in that unit.

    A currency may be missing from some values; any other unit must stand with every one.
    """
    parsed = {text: parse_number(text, decimal) for text in values}
    odd = [text for text, (value, _) in parsed.items() if value is None]
    found = {unit for value, unit in parsed.values() if value is not None and not np.isnan(value)}
    if not found:
        return "", list(values)
    money = {unit for unit in found if re.fullmatch(_MONEY, unit)}
    if len(found) == 1 or (found - {""} == money and len(money) == 1):
        return max(found), odd
    common = max(found, key=lambda unit: sum(u == unit for _, u in parsed.values()))
    return common, odd + [text for text, (value, unit) in parsed.items() if value is not None and unit != common]


def parse_number(text: str, decimal: str) -> tuple[float | None, str]:
    """The number and the unit that a text writes, NaN where it is a placeholder; None where it is no number."""
    text = text.strip()
    if text.lower() in PLACEHOLDERS or text in GAPS or re.fullmatch(rf"({_MONEY})\s*[-–—]", text):
        return np.nan, ""
    if lasts := _DURATION.fullmatch(text):  # 0 days 00:38:53, 1:30
        parts = (float(part or 0) * size for part, size in zip(lasts.groups(), (86_400, 3600, 60, 1)))
        return sum(parts), "seconds"
    found = _NUMBER.fullmatch(text)
    if found is None:
        return (float(text), "") if re.fullmatch(r"[-+]?inf(inity)?", text.lower()) else (None, "")
    digits = _DIGITS[decimal].fullmatch(found["digits"].strip())
    if digits is None or not (digits[1] or digits[3]):
        return None, ""
    plain = re.sub(r"\D", "", digits[1] or "0") + "." + (digits[3] or "0") + (found["power"] or "")
    negative = bool(found["bracket"]) != (found["sign"] in ("-", "−") or found["inner"] in ("-", "−"))
    return (-float(plain) if negative else float(plain)), found["money"] or found["unit"] or ""


def date_format(values: Sequence[str], continental: bool) -> tuple[str, list[str]]:
    """The format in which the most of some texts are dates, and those that are not; none where the first few are none.

    Where both may be meant the month is taken to come first, but for continental files.
    """
    values = [value for value in values if value not in ("0000-00-00", "00/00/0000")]
    likely = [
        value for value in values if 6 <= len(value) <= 40 and re.search(r"\d", value) and re.search(r"[-/.: ]", value)
    ]
    if len(likely) < 0.8 * len(values) or not likely:
        return "", list(values)
    days = sorted(_DAYS, key=lambda day: day.startswith("%m")) if continental else _DAYS
    sample, rest = pd.Series(likely[:20], dtype="str"), pd.Series(list(values), dtype="str")
    best: tuple[str, list[str]] = ("", list(values))
    for format_ in ("ISO8601", *(day + clock + zone for zone in _ZONES for clock in _CLOCKS for day in days)):
        if format_ == "ISO8601" and not re.match(r"\d{4}-\d\d", likely[0]):
            continue
        if ("%z" in format_) > bool(re.search(r"[-+]\d\d:?\d\d$|Z$", likely[0])) or (
            "%H" in format_ or "%I" in format_
        ) > (":" in likely[0]):
            continue
        if pd.to_datetime(sample, format=format_, errors="coerce", utc=True).isna().mean() > 0.2:
            continue
        wrong = rest[pd.to_datetime(rest, format=format_, errors="coerce", utc=True).isna()].tolist()
        if len(wrong) < len(best[1]):
            best = format_, wrong
        if not wrong:
            break
    return best
