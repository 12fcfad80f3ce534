"""What may be shown of a text from outside: no password, no control character."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from aiodownload.redact import printable, redact


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h.test/x", "http://h.test/x"),
        ("http://user:secret@h.test/x", "http://h.test/x"),
        ("https://user@h.test", "https://h.test"),
        ("http://:secret@h.test:81/x?q#f", "http://h.test:81/x?q#f"),
        ("http://user:@h.test/", "http://h.test/"),
        ("http://a@b@h.test/", "http://h.test/"),
        ("http://user:se:cr:et@h.test/", "http://h.test/"),
        ("HTTP://USER:SECRET@H.TEST/", "HTTP://H.TEST/"),
        ("ftp://user:secret@h.test/", "ftp://h.test/"),
        ("//user:secret@h.test/", "//h.test/"),
        ("http:\\\\user:secret@h.test/", "http:\\\\h.test/"),
        ("http:/user:secret@h.test/", "http:/h.test/"),
        ("http:user:secret@h.test/", "http:h.test/"),
        (" \thttp://user:secret@h.test/", " \\thttp://h.test/"),
        ("http://user:secret@", "http://"),
        ("http://user:secret@[::1/", "http://[::1/"),
    ],
)
def test_the_userinfo_is_left_out(url: str, shown: str) -> None:
    """User and password disappear from any spelling of a URL, also from one that no parser takes."""
    assert redact(url) == shown


@pytest.mark.parametrize(
    "url", ["http://h.test/a@b", "http://h.test/?mail=a@b.test", "http://h.test/#a@b", "http://h.test/x:y@z", "", "x"]
)
def test_other_at_signs_stay(url: str) -> None:
    """An ``@`` in path, query or fragment is part of the URL."""
    assert redact(url) == url


def test_a_parsed_url_is_redacted() -> None:
    """A ``yarl.URL`` is taken as its text."""
    assert redact(URL("http://user:secret@h.test/x")) == "http://h.test/x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ~ text", "plain ~ text"),
        ("fran\u00e7ais \u65e5\u672c", "fran\u00e7ais \u65e5\u672c"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\udce9", "\\udce9"),
        ("", ""),
    ],
)
def test_what_acts_on_a_terminal_becomes_an_escape(text: str, shown: str) -> None:
    """Control and format characters, line separators and lone surrogates are shown, other letters stay."""
    assert printable(text) == shown


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(st.characters(exclude_categories=())))
def test_any_text_becomes_harmless(text: str) -> None:
    """Whatever the text: the result can be encoded, holds no control character, and is shown the same a second time."""
    shown = printable(text)
    shown.encode("utf-8")
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert printable(shown) == shown


_WORD = st.text("abcXYZ0189-._~!$&'()*+,;=%:@", max_size=12)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(["http://", "https://", "HTTP://", "//", "ftp://", "http:\\\\", ""]), _WORD, _WORD, _WORD, _WORD)
def test_no_password_survives(scheme: str, user: str, before: str, after: str, rest: str) -> None:
    """Whatever surrounds it in the userinfo, the password does not appear."""
    assert "SECRET" not in redact(f"{scheme}{user}:{before}SECRET{after}@h.test/{rest}")
