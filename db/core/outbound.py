"""Which addresses a request on a user's behalf may be sent to: none that only this machine or its network reaches.

The check is made on the address that is connected to, after the name was resolved, see `db.stores.outbound`: a name can resolve to anything,
and to something else the next time.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

# `is_global` of some releases of Python lets some of these through (CVE-2024-4032), and those that embed an address of IPv4.
_DENIED: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, also metadata services
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "2001::/23",  # Teredo and other protocols
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")  # all else of IPv6 is local, mapped, translated (64:ff9b::/96), multicast or unassigned


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return the networks. Raises `ValueError`."""
    return tuple(ip_network(text) for text in texts)


def is_allowed(address: str, allowed: Sequence[Network]) -> bool:
    """Whether an operator allowed this address, which may be one of their own network."""
    ip = _parse(address)
    return ip is not None and any(ip in network for network in allowed)


def is_public(address: str) -> bool:
    """Whether the address is one of the public Internet."""
    ip = _parse(address)
    if ip is None or not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in _DENIED)


def literal_address(host: str) -> str | None:
    """The address that a host stands for as it is written, as resolvers read it: 2130706433 and 0177.1 are 127.0.0.1. None for a name."""
    if _parse(host) is not None:
        return host
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        ip = ip_address(address)
    except ValueError:
        return None
    return None if isinstance(ip, IPv6Address) and ip.scope_id is not None else ip
