"""Seal the events of the audit, and verify the seals."""

from db.services.audit.sealing import seal_events
from db.services.audit.verifying import AuditReport, KnownSeal, first_kept_id, verify

__all__ = ["AuditReport", "KnownSeal", "first_kept_id", "seal_events", "verify"]
