"""Which addresses are public, and that no other one is connected to when only those may be."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from conftest import Quick
from hypothesis import given
from hypothesis import strategies as st

import aiodownload
from aiodownload import AddressError, AioDownload, ConfigurationError, RequestStrategy, TransportError
from aiodownload.connector import _BoundedResolver
from aiodownload.request.addresses import is_public
from aiodownload.testing import FaultServer, ok, redirect

NOT_PUBLIC = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:a9fe:a9fe", "64:ff9b::7f00:1",
    "64:ff9b::169.254.169.254", "64:ff9b:1::808:808", "100::1", "2001::1", "2001:2::1", "2001:db8::1",
    "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd12:3456::1", "fe80::1",
    "fe80::1%lo", "fec0::1", "ff02::1",
    "", "localhost", "0x7f.1", "127.1", "2130706433", "1.2.3.4.5", "8.8.8.8 ", "[::1]",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
    "169.253.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "192.167.1.1", "192.169.1.1", "198.17.0.1", "198.20.0.1",
    "223.255.255.255",
    "2001:200::1", "2001:4860:4860::8888", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_special_addresses_are_not_public(address: str) -> None:
    """Loopback, private, link-local, shared, documentation, multicast, and what stands for one of these."""
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_all_others_are(address: str) -> None:
    """The neighbours of each special range, and addresses that everybody knows."""
    assert is_public(address)


@given(st.ip_addresses())
def test_never_more_than_the_standard_library(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """What ``ipaddress`` knows to be private is never called public, in whichever version of Python."""
    if is_public(str(address)):
        assert not address.is_private
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_multicast
        assert not address.is_unspecified


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    """What is no address is not public."""
    assert is_public(text) in (True, False)


Make = Callable[..., AioDownload]
SPELLINGS = [
    "127.0.0.1", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.1.", "localhost",
    "localhost.", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "[::]",
]  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_reaches_this_machine(host: str, server: FaultServer, quick: Make) -> None:
    """S19: an address is judged where it is connected to, however the URL spells it."""
    server.default = ok(b"secret of the inner network")
    bundle = aiodownload.one(f"http://{host}:{server.port}/x", quick(Quick(3, timeout=5, public_only=True)))
    assert not bundle.ok
    assert isinstance(bundle.error, (TransportError, aiodownload.InvalidURLError))
    assert bundle.attempts <= 3
    assert not server.requests
    assert not server.connections


def test_it_is_never_tried_again_and_says_why(server: FaultServer, quick: Make) -> None:
    """One try, and a message that names the host and the setting, and not the address behind the name."""
    bundle = aiodownload.one(server.url("/x", "localhost"), quick(Quick(5, public_only=True)))
    assert bundle.attempts == 1
    assert str(bundle.error) == "the address of 'localhost' is not public, and public_only=True"


def test_off_by_default(server: FaultServer, quick: Make) -> None:
    """Most programs fetch from machines of their own, too."""
    assert RequestStrategy().public_only is False
    assert aiodownload.one(server.on("/x", ok(b"inner")), quick()).ok


@pytest.fixture
def only_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as public here, and nothing else."""
    monkeypatch.setattr("aiodownload.connector.is_public", lambda address: address == "127.0.0.1")


@pytest.mark.usefixtures("only_the_first")
def test_each_redirect_is_judged(server: FaultServer, quick: Make) -> None:
    """S19: a public server cannot send us to an inner one; one public address after another is fine."""
    with FaultServer(host="127.0.0.2") as inner:
        inner.default = ok(b"secret")
        url = server.on("/in", redirect(inner.url("/x")))
        bundle = aiodownload.one(url, quick(Quick(3, public_only=True)))
        assert isinstance(bundle.error, AddressError)
        assert not inner.connections
    server.on("/there", ok(b"fine"))
    bundle = aiodownload.one(server.on("/out", redirect("/there")), quick(Quick(3, public_only=True)))
    assert bundle.ok


@pytest.mark.usefixtures("only_the_first")
def test_a_name_that_changes_its_meaning(server: FaultServer, quick: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """S19: DNS rebinding.  A name that is public at first and private then is refused then, on a new connection."""
    asked: list[str] = []

    def entry(address: str) -> dict[str, Any]:
        return {
            "hostname": "rebinding.example",
            "host": address,
            "port": server.port,
            "family": socket.AF_INET,
            "proto": 0,
            "flags": socket.AI_NUMERICHOST,
        }

    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        asked.append(host)
        return [entry("127.0.0.1" if len(asked) == 1 else "127.0.0.2")]

    monkeypatch.setattr(_BoundedResolver, "resolve", resolve)
    monkeypatch.setattr(aiohttp.TCPConnector, "_use_dns_cache", False, raising=False)
    url = f"http://rebinding.example:{server.port}"
    server.default = ok(b"x", Connection="close")

    async def both() -> list[aiodownload.AioDownloadBundle]:
        async with quick(Quick(1, public_only=True)) as download:
            download._live._transport._session.connector._use_dns_cache = False  # type: ignore[union-attr]
            return [await download.one(f"{url}/{number}") for number in range(2)]

    first, second = asyncio.run(both())
    assert first.ok
    assert isinstance(second.error, AddressError)
    assert asked == ["rebinding.example"] * 2
    assert len(server.requests) == 1


def test_a_session_of_ones_own(server: FaultServer, quick: Make) -> None:
    """A session that does not judge addresses, or goes by a proxy, is refused before anything is asked; one that does
    is used, and refuses as well."""

    def open_to_all() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    def careful(**more: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0, socket_factory=aiodownload.public_socket)
        return aiohttp.ClientSession(connector=connector, **more)

    url = server.on("/x", ok(b"inner"))
    strategy = Quick(1, public_only=True)
    with pytest.raises(ConfigurationError, match=r"socket_factory=aiodownload\.public_socket"):
        aiodownload.one(url, quick(strategy, client=open_to_all))
    for proxied in ({"trust_env": True}, {"proxy": server.url("")}):
        with pytest.raises(ConfigurationError, match="proxy"):
            aiodownload.one(url, quick(strategy, client=lambda more=proxied: careful(**more)))
    bundle = aiodownload.one(url, quick(strategy, client=careful))
    assert isinstance(bundle.error, AddressError)
    assert not server.connections


def test_a_wrong_setting_is_named() -> None:
    """It is True or False."""
    with pytest.raises(ConfigurationError, match="public_only must be True or False, not 1"):
        RequestStrategy(public_only=1)  # type: ignore[arg-type]
