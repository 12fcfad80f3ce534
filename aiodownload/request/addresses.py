"""Which addresses belong to the public internet: what a program that fetches the URLs of strangers may connect to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

__all__ = ["is_public"]

# The registries of special addresses (RFC 6890 and its updates) as far as nobody on the public internet answers
# there.  Spelled out, since the answers of ``ipaddress`` differ between versions of Python.
_SPECIAL_4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this host, this network
            "10.0.0.0/8",  # private (RFC 1918)
            "100.64.0.0/10",  # shared by the customers of a provider (RFC 6598)
            "127.0.0.0/8",  # loopback
            "169.254.0.0/16",  # link-local (RFC 3927); clouds tell their secrets at 169.254.169.254
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments (RFC 6890)
            "192.0.2.0/24",  # documentation (RFC 5737)
            "192.88.99.0/24",  # 6to4 relays (RFC 7526)
            "192.168.0.0/16",  # private
            "198.18.0.0/15",  # benchmarks (RFC 2544)
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_UNICAST_6 = IPv6Network("2000::/3")  # all that has been given to the public so far (RFC 4291 section 2.4)
_SPECIAL_6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them (RFC 2928, RFC 4380)
            "2001:db8::/32",  # documentation (RFC 3849)
            "2002::/16",  # 6to4 (RFC 3056): leads to any IPv4 address, private ones too
            "3fff::/20",  # documentation (RFC 9637)
        ),
    )
)
_NAT64 = IPv6Network("64:ff9b::/96")  # leads to the IPv4 address in its last 32 bits (RFC 6052)


def is_public(address: str) -> bool:
    """Whether ``address`` (an IP address as text, with or without a zone) is one of the public internet.

    An IPv6 address that stands for an IPv4 one is judged as that.  What is no address is not public.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        inner = parsed.ipv4_mapped
        if inner is None and parsed in _NAT64:
            inner = IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is None:
            return parsed in _UNICAST_6 and not any(parsed in network for network in _SPECIAL_6)
        parsed = inner
    return not any(parsed in network for network in _SPECIAL_4)
