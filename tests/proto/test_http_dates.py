"""Dates of HTTP and of cookies, parsed and formatted."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto._http import format_date, read_cookie_date, read_date  # checks of this module that are not public


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37)),
        ("Thu, 01-Jan-1970 00:00:01 GMT", datetime(1970, 1, 1, 0, 0, 1)),
        ("Thu, 01-Jan-70 00:00:01 GMT", datetime(1970, 1, 1, 0, 0, 1)),
        ("Tuesday, 31-Dec-69 23:59:59 GMT", datetime(2069, 12, 31, 23, 59, 59)),
        ("Thu, 01-Jan-970 00:00:01 GMT", None),
        ("Sun Nov  6 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37)),
        ("Sun Nov 16 08:49:37 1994", datetime(1994, 11, 16, 8, 49, 37)),
        ("Sun, 06 Nov 1994 08:49:37 CET", None),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 24:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:99 GMT", None),
        ("Sun, 06 Nov 1994 08::9:37 GMT", None),
        ("Sun, 06 Nov 1994 084937:: GMT", None),
        ("Sun, \u0660\u0666 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("", None),
    ],
)
def test_a_date_is_read_in_each_of_its_three_forms(text: str, date: datetime | None) -> None:
    assert read_date(text) == date
    if date is None or "-" not in text:
        assert read_date(text, datetime(2026, 7, 1)) == date


@pytest.mark.parametrize(
    ("text", "now", "year"),
    [
        ("06-Nov-94 08:49:37", datetime(2026, 7, 1), 1994),
        ("06-Nov-75 08:49:37", datetime(2026, 7, 1), 2075),
        ("06-Nov-76 08:49:37", datetime(2026, 11, 6, 8, 49, 37), 2076),
        ("06-Nov-76 08:49:38", datetime(2026, 11, 6, 8, 49, 37), 1976),
        ("06-Nov-77 08:49:37", datetime(2026, 7, 1), 1977),
        ("01-Jan-00 00:00:00", datetime(2099, 12, 31), 2100),
        ("01-Jan-70 00:00:00", datetime(2026, 7, 1), 2070),
        ("01-Jan-1970 00:00:00", datetime(2026, 7, 1), 1970),
        ("29-Feb-96 00:00:00", datetime(2026, 7, 1), 1996),
        ("29-Feb-76 00:00:00", datetime(2024, 2, 29), 1976),
    ],
)
def test_a_two_digit_year_is_at_most_fifty_years_ahead(text: str, now: datetime, year: int) -> None:
    date = read_date(f"Monday, {text} GMT", now)
    assert date is not None
    assert date.year == year


@pytest.mark.parametrize(("year", "now"), [("30", datetime(9999, 1, 1)), ("75", datetime(1, 1, 1))])
def test_a_year_out_of_range_is_not_a_date(year: str, now: datetime) -> None:
    assert read_date(f"Monday, 06-Nov-{year} 08:49:37 GMT", now) is None


@pytest.mark.parametrize(
    ("text", "date"),
    [
        ("Thu, 01-Jan-1970 00:00:01 GMT", datetime(1970, 1, 1, 0, 0, 1)),
        ("Thu, 01 Jan 1970 00:00:01 GMT", datetime(1970, 1, 1, 0, 0, 1)),
        ("Thursday, 01-Jan-70 00:00:01 GMT", datetime(1970, 1, 1, 0, 0, 1)),
        ("Thu Jan  1 00:00:01 1970", datetime(1970, 1, 1, 0, 0, 1)),
        ("Fri, 31-Dec-99 23:59:59 GMT", datetime(1999, 12, 31, 23, 59, 59)),
        ("Sat, 01-Jan-00 0:0:0 GMT", datetime(2000, 1, 1)),
        ("Tue, 31-Dec-69 23:59:59 GMT", datetime(2069, 12, 31, 23, 59, 59)),
        ("1601 1 january 1:2:3", datetime(1601, 1, 1, 1, 2, 3)),
        ("00:00:01x, 1st JAN;1970-and-more", datetime(1970, 1, 1, 0, 0, 1)),
        ("12:34:56 3 5 mar apr 2026 2027 CET", datetime(2026, 3, 3, 12, 34, 56)),
        ("1600 1 Jan 00:00:00", None),
        ("0100 1 Jan 00:00:00", None),
        ("Thu, 00 Jan 1970 00:00:01 GMT", None),
        ("Thu, 31 Feb 1970 00:00:01 GMT", None),
        ("Thu, 32 Jan 1970 00:00:01 GMT", None),
        ("Thu, 01 Jan 1970 24:00:01 GMT", None),
        ("Thu, 01 Jan 1970 00:60:01 GMT", None),
        ("Thu, 01 Jan 1970 00:00:60 GMT", None),
        ("Thu, 01 Jan 1970 00:00:001 GMT", None),
        ("Thu, 01 Jan 1970 GMT", None),
        ("Thu, Jan 1970 00:00:01 GMT", None),
        ("Thu, 01 1970 00:00:01 GMT", None),
        ("Thu, 01 Jan 00:00:01 GMT", None),
        ("Thu, 01 Jan 19700 00:00:01 GMT", None),
        ("Thu, \u0660\u0661 Jan 1970 00:00:01 GMT", None),
        ("0", None),
        ("", None),
    ],
)
def test_a_cookie_date_is_read_token_by_token(text: str, date: datetime | None) -> None:
    assert read_cookie_date(text) == date


@given(st.text() | st.text("0123456789:-, JanFebuGMT"))
def test_anything_but_a_date_gives_none(text: str) -> None:
    for read in (read_date, read_cookie_date):
        date = read(text)
        assert date is None or re.search("[0-9]:[0-9]", text)


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784111777.9, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (1709164800, "Thu, 29 Feb 2024 00:00:00 GMT"),
        (2**32 - 1, "Sun, 07 Feb 2106 06:28:15 GMT"),
    ],
)
def test_a_date_is_formatted_independently_of_the_locale(now: float, text: str) -> None:
    assert format_date(now) == text
    assert read_date(text) == datetime.fromtimestamp(int(now), UTC).replace(tzinfo=None)
