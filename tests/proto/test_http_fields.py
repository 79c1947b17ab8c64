"""Header fields from any library and from a caller, and Link fields."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opchat_proto._http import (  # checks of this module that are not public
    check_headers,
    decode_head,
    decode_headers,
    find_link,
)


def test_header_fields_of_any_library_become_pairs_with_lower_case_names() -> None:
    fields = [("Content-Type", "a"), (b"X-A", b"\xe9\xff"), (bytearray(b"X-B"), "é"), ["X-C", bytearray(b"Z")]]
    expected = [("content-type", "a"), ("x-a", "éÿ"), ("x-b", "é"), ("x-c", "Z")]
    assert decode_headers(fields) == expected  # type: ignore[arg-type]  # any pairs do
    assert decode_headers(iter(fields)) == expected  # type: ignore[arg-type]  # any pairs do
    assert decode_headers({"X-A": "b"}.items()) == [("x-a", "b")]
    assert decode_headers(()) == []


def test_repeated_fields_stay_in_order() -> None:
    assert decode_headers([("Set-Cookie", "a=1"), ("set-cookie", "b=2")]) == [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([("a", None)], "headers: expected pairs of str or bytes, got str and NoneType"),
        ([(1, "b")], "headers: expected pairs of str or bytes, got int and str"),
        ([("a",)], "headers: expected pairs of name and value, got tuple"),
        ([("a", "b", "c")], "headers: expected pairs of name and value, got tuple"),
        ([{"a", "b"}], "headers: expected pairs of name and value, got set"),
        ({"te": "x"}, "headers: expected pairs of name and value, got str"),
        ({b"ab": b"x"}, "headers: expected pairs of name and value, got bytes"),
        (["ab"], "headers: expected pairs of name and value, got str"),
        ("ab", "headers: expected pairs of name and value, got str"),
        ([None], "headers: expected pairs of name and value, got NoneType"),
    ],
)
def test_fields_that_are_not_pairs_of_texts_are_a_type_error(headers: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        decode_headers(headers)
    assert str(caught.value) == text
    given = list(headers)  # a caller's fields may be a mapping
    with pytest.raises(TypeError, match=r"^headers: expected pairs of "):
        check_headers(given)


def test_a_head_has_a_status_and_header_fields() -> None:
    assert decode_head(200, [("X-A", b"b")]) == [("x-a", "b")]
    for status, kind in (("200", "str"), (True, "bool"), (None, "NoneType")):
        with pytest.raises(TypeError, match=f"^status: expected an int, got {kind}$"):
            decode_head(status, [])  # type: ignore[arg-type]  # wrong on purpose


API = "https://api.w.org/"
BASE = "https://site.example/wp-json/a?b=c"


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ([f'<https://site.example/wp-json/>; rel="{API}"'], "https://site.example/wp-json/"),
        ([f"<https://site.example/api/>;rel={API}"], "https://site.example/api/"),
        ([f'<http://a/?b=c,d;e>;title="x";REL = "next  {API.upper()} self"'], "http://a/?b=c,d;e"),
        ([f'<https://a/>; rel=alternate, <https://b/>; rel="{API}", <https://c/>; rel="{API}"'], "https://b/"),
        (["<https://a/>; rel=alternate", f'<https://b/>;rel="{API}"'], "https://b/"),
        ([f'<https://a/>; title="<https://x/>; rel={API}, \\" "; rel=next, < https://b/ > ;rel="{API}"'], "https://b/"),
        ([f'<https://a/>; rel="next"; rel="{API}"'], None),
        ([f'<https://a/>; rel="{API}"; rel="next"'], "https://a/"),
        (['<https://a/>; rel="https:\\/\\/api.w.org/"'], "https://a/"),
        ([f'<https://a/>; rel="{API}'], "https://a/"),
        ([f'<https://a/>; x; rel="{API}"'], "https://a/"),
        ([f'<https://a/>; x="y"; ; rel="{API}"'], "https://a/"),
        ([f'</api/>; rel="{API}"'], "https://site.example/api/"),
        ([f'<?rest_route=/>; rel="{API}"'], "https://site.example/wp-json/a?rest_route=/"),
        ([f'<//b.example/>; rel="{API}"'], "https://b.example/"),
        ([f'<https://a/>; rev="{API}"'], None),
        ([f'<https://a/>; rel="{API}x"'], None),
        ([f'<https://a/>; rel="{API}X"'], None),
        ([f'<https://a/>; rel*="{API}"'], None),
        (["<https://a/>"], None),
        (["<https://a/>; rel"], None),
        (["<https://a/>; rel="], None),
        ([f'https://a/; rel="{API}"'], None),
        ([f'<https://a/; rel="{API}"'], None),
        ([f'<https://[/>; rel="{API}", <ftp://a/>; rel="{API}", <https://b/>; rel="{API}"'], "https://b/"),
        ([f'<javascript:alert(1)>; rel="{API}"'], None),
        ([f'<https://a/b c>; rel="{API}"'], None),
        ([f'<https://a/\xe9>; rel="{API}"'], None),
        ([f'<https://a/\ud800>; rel="{API}"'], None),
        ([f'<https://{"a" * 201}>; rel="{API}"'], None),
        (["", ",", "<", "<>", f'<>;rel="{API}"'], BASE),
        ([], None),
    ],
)
def test_a_link_is_found_by_its_relation(values: list[str], address: str | None) -> None:
    headers = [("x", f'<https://x/>; rel="{API}"'), *(("link", value) for value in values)]
    assert find_link(headers, API, BASE) == address


@given(st.lists(st.text('<>;,="\\ arel/:', max_size=40), max_size=3))
def test_a_link_without_a_usable_address_gives_none(values: list[str]) -> None:
    address = find_link([("link", value) for value in values], "a", BASE)
    assert address is None or re.fullmatch(r"https?://[!-~]+", address)


@pytest.mark.parametrize(
    "value",
    [
        "<" * 300_000,
        "<a>" * 100_000,
        '<a>;"' * 60_000,
        '<a>; rel="\\' * 40_000,
        "<a>" + "; rel" * 60_000,
        " " * 300_000,
    ],
)
def test_a_long_link_field_is_read_in_one_pass(value: str) -> None:
    assert find_link([("link", value)], API, BASE) is None


@pytest.mark.parametrize("headers", [None, 5])
def test_fields_that_are_not_iterable_are_a_type_error(headers: Any) -> None:
    for call in (decode_headers, lambda given: check_headers(given)):
        with pytest.raises(TypeError):
            call(headers)


@pytest.mark.parametrize(
    "field",
    [
        ("User-Agent", "Mozilla/5.0 (X11)"),
        ("x", ""),
        ("X-Empty", "a"),
        ("!#$%&'*+-.^_`|~09azAZ", "a\tb c"),
        ("X-Latin", "\xe9\x80\xff"),
        ("Host2", "x"),
    ],
)
def test_a_callers_field_is_copied_unchanged(field: tuple[str, str]) -> None:
    given = [field, ("A", "b")]
    checked = check_headers(given)
    given.clear()
    assert checked == check_headers(dict(checked)) == (field, ("A", "b"))


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", ":authority", "a\n", "a\r\nb", "é", "a\x00", "(a)", "a,b", "a/b", "\ud800"]
)
def test_a_name_that_is_not_a_token_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^headers: expected a field name, got ") as caught:
        check_headers([(name, "x")])
    assert str(caught.value).endswith(repr(name))


@pytest.mark.parametrize(
    "value",
    [
        *("a\r\nX: y", "a\n", "\na", "a\r", "a\x00b", "\x00", "a\x7f", "a\x1f", "\u0100", "\u2028", "\ud800"),
        *(" a", "a ", "\ta", "a\t", " "),
    ],
)  # fmt: skip
def test_a_value_with_a_line_break_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        check_headers([("X-A", value)])
    expected = "headers: X-A: expected a value without control characters and blanks at its ends"
    assert str(caught.value) == expected


@pytest.mark.parametrize("name", ["Host", "host", "HOST", "hOsT"])
def test_a_reserved_field_is_refused_case_insensitively(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^headers: {name} cannot be set here: opchat sets it$"):
        check_headers([("Accept", "a"), (name, "x")])


@pytest.mark.parametrize(
    ("field", "kinds"),
    [
        ((b"a", "b"), "bytes and str"),
        (("a", b"b"), "str and bytes"),
        (("a", 5), "str and int"),
        ((5, "b"), "int and str"),
    ],
)
def test_a_callers_field_is_a_pair_of_str(field: Any, kinds: str) -> None:
    with pytest.raises(TypeError, match=f"^headers: expected pairs of str, got {kinds}$"):
        check_headers([field])


@pytest.mark.parametrize(
    "value", ["a" + " " * 1_000_000 + "\x00", " " * 1_000_000, "a" * 1_000_000 + "\n", "a\t" * 500_000]
)
def test_a_long_value_is_refused_in_one_pass(value: str) -> None:
    with pytest.raises(ValueError, match=r"^headers: A: expected a value"):
        check_headers([("A", value)])
