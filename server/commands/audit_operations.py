"""The action of `trellis audit`, as the viewer SYSTEM, who sees everything."""

from __future__ import annotations

import re

from db.services import audit
from db.settings import StateSettings
from server.commands.filters import InvalidOption
from server.commands.operations import open_database

_SEAL = re.compile(r"(\d{1,18}):([0-9a-fA-F]{64})", re.ASCII)


async def verify(settings: StateSettings, seal: str | None) -> audit.AuditReport:
    """Verify the audit, and that it has this seal, given as `number:sha256`. Raises `InvalidOption` for another form."""
    known = None
    if seal is not None:
        match = _SEAL.fullmatch(seal.strip())
        if match is None:
            raise InvalidOption(f"{seal!r} is no seal: write it as `trellis audit verify` prints it, NUMBER:SHA256.")
        known = audit.KnownSeal(int(match[1]), bytes.fromhex(match[2]))
    async with open_database(settings) as database:
        return await audit.verify(database, known, settings.audit_retention)
