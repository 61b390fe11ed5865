"""Seal the events of the audit, and verify the seals."""

from db.services.audit.sealing import seal_events
from db.services.audit.verifying import AuditReport, KnownSeal, verify

__all__ = ["AuditReport", "KnownSeal", "seal_events", "verify"]
