"""The model: what is a parameter, what was measured, and what follows; each is a formula that the page shows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import Any

DAY = 86_400
TIME_WAIT = 60  # seconds; Linux, include/net/tcp.h: TCP_TIMEWAIT_LEN
PORTS = 60_999 - 32_768 + 1  # Linux, net.ipv4.ip_local_port_range
INODES = 2**32  # of one ext4
DNS_TTL = 10  # seconds that a connector remembers an address: aiohttp, TCPConnector(ttl_dns_cache=10)
SHARD = 10_000  # members: TarShards(shard_size=10_000)
SLOTS = 64  # Adaptive(concurrent=64)
WAITING = 10_000  # bundles that are read ahead at most
# img2dataset: README.md and dataset_examples/laion5B.md.
PEER = {"urls": 5.8e9, "days": 7, "nodes": 10, "cores": 16, "rate": 9500}


@dataclass(frozen=True)
class Parameters:
    """What is not measured, and may be set by an option of the same name."""

    urls: float = 1e10
    hosts: float = 1e7
    body: float = 51_200
    days: float = 7
    rate: float = 10
    latency: float = 0.2
    reuse: float = 10
    handshake: float = 0.001
    busy: float = 0.5
    resolver: float = 1000
    line: float = 1
    memory: float = 16e9
    price: float = 0.05
    put: float = 0.005


SAYS = {
    "urls": "URLs in all",
    "hosts": "hosts that they are on",
    "body": "bytes of a body",
    "days": "days that it may take",
    "rate": "requests a second that a host bears",
    "latency": "seconds from a request to the end of its body",
    "reuse": "requests over one connection",
    "handshake": "CPU seconds of one TLS handshake",
    "busy": "share of the time for which a core is to be at work",
    "resolver": "look-ups a second that one DNS resolver takes",
    "line": "Gbit/s of one line",
    "memory": "bytes of memory that there are for a journal",
    "price": "price of a core for an hour",
    "put": "price of a thousand writes to an object store",
}


def harmonic(count: float, exponent: float) -> float:
    """The sum of k**-exponent for k from 1 to ``count``: exact for the first thousand, then Euler and Maclaurin's."""
    exact = min(int(count), 1000)
    total = math.fsum(k**-exponent for k in range(1, exact + 1))
    if count > exact:
        area = (
            math.log(count / exact)
            if exponent == 1
            else (count ** (1 - exponent) - exact ** (1 - exponent)) / (1 - exponent)
        )
        total += area + (count**-exponent - exact**-exponent) / 2
    return total


@dataclass(frozen=True)
class Hosts:
    """URLs over hosts: the k-th largest of ``hosts`` has a share in proportion to k**-exponent."""

    urls: float
    hosts: float
    exponent: float

    def size(self, k: float) -> float:
        """URLs of the k-th largest host."""
        return float(self.urls * k**-self.exponent / harmonic(self.hosts, self.exponent))

    def larger(self, size: float) -> float:
        """How many hosts have more URLs than that."""
        if not self.exponent:
            return self.hosts if self.size(1) > size else 0
        return min(self.hosts, math.floor((self.size(1) / size) ** (1 / self.exponent)))

    def capped(self, size: float) -> float:
        """URLs that there would be if no host had more than that."""
        large = self.larger(size)
        rest = self.urls - self.size(1) * harmonic(large, self.exponent) if large else self.urls
        return large * size + max(0.0, rest)

    def seconds_for(self, share: float, rate: float) -> float:
        """When that share of the URLs is fetched, if each host gives ``rate`` a second from the beginning on."""
        low, high = 0.0, self.size(1) / rate
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (low, middle) if self.capped(middle * rate) >= share * self.urls else (middle, high)
        return high

    def look_ups(self, rate: float) -> float:
        """Of names, if the URLs of a host are together: one for each host, and one every DNS_TTL while it is asked."""
        lasting = rate * DNS_TTL
        large = self.larger(lasting)
        asked = self.size(1) * harmonic(large, self.exponent) if large else 0.0
        return (self.hosts - large) + asked / lasting


@dataclass(frozen=True)
class Measured:
    """Figures of the last runs, in seconds and bytes."""

    each: float  # CPU of a small file
    each_byte: float  # CPU of each further byte
    with_journal: float  # CPU that a journal adds
    journal_rate: float  # files a second, one process, with a journal
    small: float  # bytes of a small file
    peer: float  # CPU of a small file, img2dataset
    two: float  # files a second of two processes, by those of one
    row: float  # bytes of a row in the largest journal
    per_host: float  # bytes of memory, Adaptive
    decision: float  # of the schedule

    @classmethod
    def of(cls, speed: dict[str, Any], simulation: dict[str, Any], scale: dict[str, Any]) -> Measured:
        """Take them from what benchmarks/results has."""
        small, medium = speed["works"]["small"], speed["works"]["medium"]
        each = median(row["our_cpu"] for row in small["rows"]) / small["files"]
        large = median(row["our_cpu"] for row in medium["rows"]) / medium["files"]
        rows = {row["program"]: row for row in small["rows"]}
        journal = rows["aiodownload, journal"]
        return cls(
            each=each,
            each_byte=(large - each) / (medium["size"] - small["size"]),
            with_journal=(journal["their_cpu"] - journal["our_cpu"]) / small["files"],
            journal_rate=small["files"] / journal["theirs"],
            small=small["size"],
            peer=rows["img2dataset"]["their_cpu"] / small["files"],
            two=speed["works"]["halves"]["ratio"],
            row=scale["journal"][-1]["bytes"],
            per_host=scale["host"],
            decision=max(row["seconds"] for row in simulation["decisions"]),
        )

    def cpu(self, chosen: Parameters) -> float:
        """Seconds of CPU for one URL."""
        body = self.each + self.each_byte * (chosen.body - self.small)
        return max(0.0, body) + self.with_journal + chosen.handshake / chosen.reuse
