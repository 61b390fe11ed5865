"""Where a request comes from, and the network of an address, which counts as one client."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """The client's address, and what it says that it is."""

    address: str | None = None
    user_agent: str | None = None


NO_CLIENT = ClientInfo()


def client_network(address: str | None) -> str:
    """Return the network that counts as one client: of IPv6 the first 64 bits, since a client can vary the rest."""
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is None:
        return str(ipaddress.ip_network((ip, 64), strict=False).network_address)
    return str(getattr(ip, "ipv4_mapped", None) or ip)
