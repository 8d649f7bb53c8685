"""Numbers and dates in the ways in which people write them."""

import pandas as pd
import pytest

from neurarium.data import DataError
from neurarium.data.tables._kinds import Date, Number, Text, infer, parse_number

NUMBERS = {
    "money": (["$1,234.00", "$5.00", "($3.50)", "-$2", "$ -"], [1234, 5, -3.5, -2, None]),
    "euro behind": (["1.234,56 €", "2,00 €"], [1234.56, 2]),
    "codes": (["USD 5", "USD 6.5"], [5, 6.5]),
    "percent": (["12.3%", "4 %", "-0.5%"], [12.3, 4, -0.5]),
    "decimal comma": (["1,5", "2,75", "-3"], [1.5, 2.75, -3]),
    "thousands": (["1,234", "5,678,901"], [1234, 5678901]),
    "Swiss": (["1'234.50", "2"], [1234.5, 2]),
    "French": (["1 234,5", "1\u202f000,0"], [1234.5, 1000]),
    "true minus": (["−5", "3"], [-5, 3]),
    "powers": (["1e5", "2.5E-3"], [1e5, 2.5e-3]),
    "units": (["5 kg", "6.5kg"], [5, 6.5]),
    "placeholders": (["1.5", "-", "unknown", "n.a.", "2", ".5"], [1.5, None, None, None, 2, 0.5]),
    "blanks": ([" 1 ", "2 ", ""], [1, 2, None]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name):
    texts, wanted = NUMBERS[name]
    column = pd.Series(texts, dtype="str")
    kind = infer(column, False, "x", "f.csv")
    assert isinstance(kind, Number)
    assert kind.read(column).tolist() == pytest.approx(pd.Series(wanted, dtype="float64").tolist(), nan_ok=True)


def test_a_lone_comma_separates_what_the_file_suggests():
    column = pd.Series(["1,234", "5,678"], dtype="str")
    assert infer(column, False, "x", "f.csv").read(column).tolist() == [1234, 5678]
    assert infer(column, True, "x", "f.csv").read(column).tolist() == [1.234, 5.678]
    assert parse_number("1,2345", ".") == (None, "")
    assert parse_number("1,23,456", ".") == (None, "")


@pytest.mark.parametrize(
    "texts",
    [["11th", "10th", "HS-grad"], ["<=50K", ">50K"], ["Q1", "Q2"], ["3a", "4b"], ["10-20", "20-30"], ["$5", "6%"],
     ["192.168.0.1", "10.0.0.2"], ["12345-6789", "12345-1111"], ["A", "B", "7"], ["May", "June"],
     ["12/13/14/15", "1/2/3/4"]],
)  # fmt: skip
def test_text_stays_text(texts):
    assert infer(pd.Series(texts, dtype="str"), False, "x", "f.csv") == Text()


DATES = {
    "ISO": ["2012-01-02", "2012-12-31"],
    "ISO in UTC": ["2012-01-02T00:00:00Z", "2012-12-31T00:00:00Z"],
    "slashes": ["2012/01/02", "2012/12/31"],
    "American": ["1/2/2012", "12/31/2012"],
    "British": ["02/01/2012", "31/12/2012"],
    "German": ["02.01.2012", "31.12.2012"],
    "names": ["Jan 2 2012", "Dec 31 2012"],
    "long": ["January 2, 2012", "December 31, 2012"],
    "Oracle": ["02-Jan-12", "31-Dec-12"],
    "with a clock": ["2012/01/02 00:00", "2012/12/31 00:00"],
    "half days": ["1/2/2012 12:00 AM", "12/31/2012 12:00 AM"],
    "database": ["2012-01-02 00:00:00.000", "2012-12-31 00:00:00.000"],
}


@pytest.mark.parametrize("name", DATES)
def test_dates(name):
    column = pd.Series([*DATES[name], None], dtype="str")
    kind = infer(column, False, "x", "f.csv")
    assert isinstance(kind, Date)
    days = kind.read(column)
    assert days[:2].tolist() == [pd.Timestamp("2012-01-02"), pd.Timestamp("2012-12-31")]
    assert days[2:].isna().all()


def test_the_day_comes_first_where_commas_are_decimal():
    column = pd.Series(["02/01/2012", "03/04/2012"], dtype="str")
    assert infer(column, True, "x", "f.csv").read(column)[0] == pd.Timestamp("2012-01-02")
    assert infer(column, False, "x", "f.csv").read(column)[0] == pd.Timestamp("2012-02-01")


def test_a_slip_is_named():
    numbers = pd.Series(["1.5", "2", "3", "4", "5", "1o.5"], dtype="str")
    with pytest.raises(DataError, match=r"f\.csv: column 'x' holds numbers but for '1o\.5' in row 6"):
        infer(numbers, False, "x", "f.csv")
    assert infer(numbers, False, "x", "f.csv", as_text=True) == Text()
    dates = pd.Series([f"2020-01-0{i}" for i in range(1, 7)] + ["2020-13-45"], dtype="str")
    with pytest.raises(DataError, match="column 'x' holds dates but for '2020-13-45' in row 7"):
        infer(dates, False, "x", "f.csv")
