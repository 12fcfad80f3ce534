"""Where a redirect leads, and what goes along: pure judgement, no sockets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from aiodownload import RedirectError
from aiodownload.request.redirects import MAX_REDIRECTS, Hop, Trail

HEADERS = {"Authorization": "Basic c2VjcmV0", "X-Api-Key": "secret"}
START = URL("http://a.test/start")


def get(url: str | URL = START) -> Hop:
    """A GET with headers of the caller's."""
    return Hop("GET", URL(url), HEADERS)


def post(url: str | URL = START) -> Hop:
    """A POST with form data."""
    return Hop("POST", URL(url), HEADERS, b"a=1")


def follow(hop: Hop, *locations: str, status: int = 302, cookies: bool = False) -> Hop:
    """The next request after one redirect."""
    following = Trail().follow(hop, status, locations, cookies=cookies)
    assert following is not None
    return following


@pytest.mark.parametrize("status", [status for status in range(100, 600) if status not in (301, 302, 303, 307, 308)])
def test_other_statuses_are_no_redirect(status: int) -> None:
    """A Location field means nothing to any other status."""
    assert Trail().follow(get(), status, ["/x"], cookies=False) is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_without_location_is_none(status: int) -> None:
    """Without Location there is no place to go on to, and the response is judged as it is."""
    assert Trail().follow(get(), status, [], cookies=False) is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_get_stays_a_get(status: int) -> None:
    """A GET is followed by a GET with the caller's headers, as long as the origin is the same."""
    assert follow(get(), "/next", status=status) == Hop("GET", URL("http://a.test/next"), HEADERS)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_becomes_a_get(status: int) -> None:
    """301, 302 and 303 turn a POST into a GET without form data (RFC 9110 sections 15.4.2-4)."""
    hop = follow(post(), "/next", status=status)
    assert (hop.method, hop.body) == ("GET", None)


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_becomes_a_bare_get_at_another_origin(status: int) -> None:
    """The GET that a POST becomes takes neither form data nor headers to another origin."""
    assert follow(post(), "http://b.test/", status=status) == Hop("GET", URL("http://b.test/"), {}, None, False)


@pytest.mark.parametrize("status", [307, 308])
def test_a_post_stays_a_post(status: int) -> None:
    """307 and 308 ask for the same again, form data included, at the same origin."""
    assert follow(post(), "/next", status=status) == Hop("POST", URL("http://a.test/next"), HEADERS, b"a=1")


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize(
    "target", ["http://b.test/", "http://a.test:8080/", "https://b.test/", "https://a.test.b.test/"]
)
def test_form_data_does_not_leave_its_host(status: int, target: str) -> None:
    """Form data is not sent on to another host."""
    with pytest.raises(RedirectError, match="form data") as caught:
        follow(post(), target, status=status)
    assert caught.value.http_status == status


def test_form_data_may_go_over_to_https() -> None:
    """From http to https of the same host the form data goes along; the headers do not, for the origin is another."""
    assert follow(post(), "https://a.test/x", status=307) == Hop("POST", URL("https://a.test/x"), {}, b"a=1", False)


def test_form_data_does_not_go_to_another_port() -> None:
    """R43: over TLS it is the same server only at the scheme's own port, or at the very same one."""
    start = post()._replace(url=URL("http://a.test:8080/"))
    assert follow(start, "https://a.test:8080/x", status=307).body == b"a=1"  # type: ignore[union-attr]
    for target in ("https://a.test/x", "https://a.test:8443/x"):
        with pytest.raises(RedirectError, match="form data"):
            follow(start, target, status=308)
    with pytest.raises(RedirectError, match="form data"):
        follow(post(), "https://a.test:8443/x", status=307)


@pytest.mark.parametrize(
    "target",
    [
        "http://b.test/",
        "http://a.test:8080/",
        "https://a.test/",
        "//b.test/x",
        "http://a.test./",
        "http://sub.a.test/",
        "http://127.0.0.1/",
    ],
)
def test_headers_stay_with_their_origin(target: str) -> None:
    """Another scheme, host or port gets none of the caller's headers (RFC 9110 section 15.4)."""
    hop = follow(get(), target)
    assert hop.headers == {}
    assert not hop.trusted


@pytest.mark.parametrize(
    "target", ["/x", "x", "?q", "http://a.test/", "http://a.test:80/", "HTTP://A.TEST/", "//a.test/x"]
)
def test_the_same_origin_in_other_words_keeps_the_headers(target: str) -> None:
    """Relative references, the default port and upper case are the same origin."""
    hop = follow(get(), target)
    assert hop.headers == HEADERS
    assert hop.trusted


def test_headers_are_gone_for_good() -> None:
    """A detour over another origin back to the first one does not bring the headers back."""
    trail = Trail()
    away = trail.follow(get(), 302, ["http://b.test/"], cookies=False)
    assert away is not None
    back = trail.follow(away, 302, ["http://a.test/back"], cookies=False)
    assert back == Hop("GET", URL("http://a.test/back"), {}, None, False)


@pytest.mark.parametrize(
    ("base", "location", "target"),
    [
        ("http://a.test/x/y", "z", "http://a.test/x/z"),
        ("http://a.test/x/y", "../z", "http://a.test/z"),
        ("http://a.test/x/y", "../../../../z", "http://a.test/z"),
        ("http://a.test/x/y?q=1", "?r=2", "http://a.test/x/y?r=2"),
        ("http://a.test/x", "//b.test:81/y", "http://b.test:81/y"),
        ("http://a.test/x", "/y#part", "http://a.test/y"),
        ("http://a.test/x", "https://a.test/x", "https://a.test/x"),
        ("http://a.test/x", "/a%2Fb%20c", "http://a.test/a%2Fb%20c"),
        ("http://a.test/x", "/a b", "http://a.test/a%20b"),
        ("http://a.test/x", "/fran\u00e7ais", "http://a.test/fran%C3%A7ais"),
    ],
)
def test_locations_are_references(base: str, location: str, target: str) -> None:
    """A Location is resolved against the URL that was asked for, and loses its fragment (RFC 9110 section 10.2.2)."""
    assert str(follow(get(base), location).url) == target


def test_bytes_that_are_no_text_stay_the_bytes_they_are() -> None:
    """Bytes that are no UTF-8 arrive as surrogates and are asked for as percent escapes of the same bytes."""
    location = b"/caf\xe9/\xff\x80".decode("utf-8", "surrogateescape")
    assert follow(get(), location).url.raw_path == "/caf%E9/%FF%80"


@pytest.mark.parametrize(
    "location",
    [
        "http://user:secret@b.test/x",
        "//user:secret@b.test/x",
        "http://user@b.test/x",
        "http://:secret@b.test/x",
        "http://a@secret@b.test/x",
    ],
)
def test_credentials_in_a_location_are_not_used(location: str) -> None:
    """User and password that a server puts into a Location are neither sent nor shown."""
    hop = follow(get(), location)
    assert str(hop.url) == "http://b.test/x"
    assert hop.headers == {}


@pytest.mark.parametrize(
    "location",
    [
        "ftp://a.test/x",
        "file:///etc/passwd",
        "data:text/plain,x",
        "HTTP+UNIX://%2Ftmp%2Fs/x",
        "javascript:alert(1)",
        "mailto:a@b.test",
        "ws://a.test/",
        "view-source:http://a.test/",
    ],
)
def test_only_http_and_https_are_followed(location: str) -> None:
    """A redirect to any other scheme is refused."""
    with pytest.raises(RedirectError, match="only http and https") as caught:
        follow(get(), location)
    assert caught.value.http_status == 302


def test_https_does_not_go_back_to_http() -> None:
    """A redirect from https to http is refused, to any host and by any status."""
    for status in (301, 302, 303, 307, 308):
        for location in ("http://a.test/", "http://b.test/"):
            with pytest.raises(RedirectError, match="from https"):
                follow(get("https://a.test/"), location, status=status)
    assert follow(get("https://a.test/"), "//a.test/x").url.scheme == "https"


@pytest.mark.parametrize("char", [chr(code) for code in (*range(32), 127)])
def test_control_characters_are_refused(char: str) -> None:
    """A Location with a control character is no URL, and the message does not repeat the character."""
    with pytest.raises(RedirectError, match="control character") as caught:
        follow(get(), f"http://b.test/x{char}y")
    assert char not in str(caught.value)


@pytest.mark.parametrize(
    "location", ["http://[x]/", "http://[::1/", "http://b.test:99999/", "http://b.test:port/", "http://\u2100/"]
)
def test_a_location_that_is_no_url_is_refused(location: str) -> None:
    """What the parser does not take is a RedirectError, not a ValueError."""
    with pytest.raises(RedirectError, match="no URL"):
        follow(get(), location)


@pytest.mark.parametrize(
    "location",
    ["http://b%0d%0aX.test/", "http://b b.test/", "http://b%2F@c.test%00/", "http://b|c/", f"http://{'a' * 300}/"],
)
def test_a_host_that_is_no_name_is_refused(location: str) -> None:
    """A Location whose host could not be given as a URL either is refused."""
    with pytest.raises(RedirectError):
        follow(get(), location)


def test_two_different_locations_are_refused() -> None:
    """Two Location fields that disagree are an error, for nobody knows which is meant."""
    with pytest.raises(RedirectError, match="two different"):
        follow(get(), "/x", "/y")


def test_the_same_location_twice_is_one() -> None:
    """Two Location fields that agree are followed."""
    assert follow(get(), "/x", "/x").url.path == "/x"


@pytest.mark.parametrize("location", ["", "/start", "http://a.test/start", "#part", "HTTP://A.test/start", "start"])
def test_a_redirect_to_itself_is_a_circle(location: str) -> None:
    """The same URL again can only give the same answer."""
    with pytest.raises(RedirectError, match="circle"):
        follow(get(), location)


def test_a_longer_circle_is_found() -> None:
    """A circle over several URLs ends when it closes."""
    trail = Trail()
    second = trail.follow(get("http://a.test/1"), 302, ["/2"], cookies=False)
    assert second is not None
    third = trail.follow(second, 302, ["/3"], cookies=False)
    assert third is not None
    with pytest.raises(RedirectError, match="circle"):
        trail.follow(third, 302, ["/1"], cookies=False)


def test_a_post_that_becomes_a_get_of_the_same_url_is_no_circle() -> None:
    """Post, redirect, get: the same URL is asked for by another method."""
    assert follow(post(), "/start", status=303).method == "GET"


def test_a_cookie_may_make_the_same_url_another_one() -> None:
    """A server that sets a cookie and sends back to the same URL is followed."""
    assert follow(get(), "/start", cookies=True).url == START


def test_ten_redirects_are_followed_and_no_more() -> None:
    """The tenth redirect is followed, the eleventh refused."""
    trail, hop = Trail(), get("http://a.test/0")
    for number in range(1, MAX_REDIRECTS + 1):
        following = trail.follow(hop, 302, [f"/{number}"], cookies=False)
        assert following is not None
        hop = following
    with pytest.raises(RedirectError, match="more than 10"):
        trail.follow(hop, 302, ["/11"], cookies=False)


@pytest.mark.parametrize("locations", [["/start"], ["/x", "/start"]])
def test_cookies_do_not_make_redirects_endless(locations: list[str]) -> None:
    """A server that sets a cookie with every redirect is not followed more than ten times."""

    def walk() -> None:
        trail, hop = Trail(), get()
        for number in range(MAX_REDIRECTS + 1):
            following = trail.follow(hop, 302, [locations[number % len(locations)]], cookies=True)
            assert following is not None
            hop = following

    with pytest.raises(RedirectError):
        walk()


def test_messages_do_not_show_credentials() -> None:
    """No message of a refused redirect repeats a password."""
    for location in ("ftp://user:secret@b.test/", "http://user:secret@[x/", "http://user:secret@b.test:port/"):
        with pytest.raises(RedirectError) as caught:
            follow(get(), location)
        assert "secret" not in str(caught.value) + repr(caught.value)
    with pytest.raises(RedirectError) as caught:
        follow(get("https://a.test/"), "http://user:secret@b.test/")
    assert "secret" not in str(caught.value) + repr(caught.value)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(
    st.one_of(st.text(max_size=40), st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape"))),
    st.sampled_from(["", "/", "//", "http://", "https://", "http:", "?", "#"]),
    st.sampled_from([301, 302, 303, 307, 308]),
    st.booleans(),
)
def test_any_location_is_followed_safely_or_refused(text: str, prefix: str, status: int, posting: bool) -> None:
    """Whatever the field holds: a RedirectError, or an http(s) URL without credentials that keeps secrets at home."""
    hop = post() if posting else get()
    try:
        following = follow(hop, prefix + text, status=status)
    except RedirectError:
        return
    url = following.url
    assert url.scheme in ("http", "https")
    assert url.raw_host
    assert url.user is None
    assert url.password is None
    assert not url.raw_fragment
    if (url.scheme, url.host, url.port) != ("http", "a.test", 80):
        assert following.headers == {}
        assert not following.trusted
        assert following.body is None or url.host == "a.test"
