"""The relying party of passkeys (WebAuthn): the host to which browsers bind them, and the origin whose pages may use them.

It comes from the settings, never from what a request says: a page of another host that reaches this API must not get passkeys for itself. Only
on loopback, where nobody else's page can be, the request says which port its page is at.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from db.core.networks import ClientInfo
from db.errors import WrongState

_LOCAL_HOST = re.compile(r"localhost(?::[0-9]{1,5})?", re.IGNORECASE | re.ASCII)
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """`id` is a host without a port (WebAuthn, 5.1.2); an answer counts if the page that asked for it has one of the `origins`."""

    id: str
    origins: tuple[str, ...]


def relying_party(public_url: str, client: ClientInfo) -> RelyingParty:
    """Return the relying party of the settings, or without them of a client on this machine. Raises `WrongState` where there is none."""
    party = _of_url(public_url) if public_url else _of_local_host(client.host or "")
    if party is None:
        raise WrongState(
            "NO_RELYING_PARTY",
            "Passkeys are bound to a host with a name and https, and here is none. Set TRELLIS_PUBLIC_URL to the https address of the pages; on"
            " this machine, without that setting, open http://localhost with the port, instead of an address of digits.",
        )
    return party


def _of_url(url: str) -> RelyingParty | None:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or _is_address(host) or (parts.scheme != "https" and not (parts.scheme == "http" and host == "localhost")):
        return None
    port = "" if parts.port in {None, _DEFAULT_PORTS[parts.scheme]} else f":{parts.port}"
    return RelyingParty(host, (f"{parts.scheme}://{host}{port}",))


def _of_local_host(host: str) -> RelyingParty | None:
    if not _LOCAL_HOST.fullmatch(host):
        return None
    return RelyingParty("localhost", tuple(f"{scheme}://{host.lower()}" for scheme in _DEFAULT_PORTS))


def _is_address(host: str) -> bool:
    """Whether a host is an IP address, to which browsers bind nothing."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
