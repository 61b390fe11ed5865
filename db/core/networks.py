"""Where a request comes from, and the network of an address, which counts as one client."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """The client's address, what it says that it is, and the host that it says it sent its request to."""

    address: str | None = None
    user_agent: str | None = None
    host: str | None = None


NO_CLIENT = ClientInfo()


def client_network(address: str | None) -> str:
    """Return the network that counts as one client: of IPv6 the first 64 bits, since a client can vary the rest."""
    return _network(address, 32, 64)


def wide_network(address: str | None) -> str:
    """Return the network in which the addresses of one connection change: 24 bits of IPv4, 48 of IPv6."""
    return _network(address, 24, 48)


def _network(address: str | None, bits: int, bits_v6: int) -> str:
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return UNKNOWN
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return str(ipaddress.ip_network((ip, bits if ip.version == 4 else bits_v6), strict=False).network_address)
