"""Targets: which addresses a webhook may go to. Pure.

Only what the internet routes to is, by our own list: what Python's `ipaddress` takes for private
changed between its versions. Forms of IPv6 that hold an IPv4 address count as both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network, and unspecified
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; Alibaba's metadata
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        "168.63.129.16/32",  # Azure's own, in a public range
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "3fff::/20",  # documentation
    )
]
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class TargetRefused(Exception):
    """A webhook's host is, or resolves to, what it must not be sent to."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is allowed although it is refused by default: networks, and hosts by their name."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, names: Iterable[str]) -> Allowed:
        """Networks (`10.0.0.0/8`, `::1`) and host names, as the settings have checked them."""
        networks, hosts = [], set()
        for name in names:
            try:
                networks.append(ipaddress.ip_network(name))
            except ValueError:
                hosts.add(name.lower())
        return cls(tuple(networks), frozenset(hosts))


def check_address(host: str, address: Address, allowed: Allowed) -> None:
    """Raise TargetRefused where a webhook to `host` must not go to `address`."""
    if host.lower() in allowed.hosts or _within(address, allowed.networks):
        return
    inner = _ipv4_within(address)
    if inner is not None:
        if _within(inner, allowed.networks):
            return
        refused = _within(inner, _REFUSED)
    else:
        refused = _within(address, _REFUSED) or (address.version == 6 and address not in _GLOBAL_V6)
    if refused:
        raise TargetRefused("its address is private, local or reserved")


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address.version == net.version and address in net for net in networks)


def _ipv4_within(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, compatible, 6to4 or NAT64 one leads to."""
    if address.version == 4:
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _SIX_TO_FOUR:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None  # the compatible ones, ::/96, are no global addresses
