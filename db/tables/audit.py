"""The audit: an event for each change that somebody made, and seals by which a later change of events is found."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, LargeBinary, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.core.audit import AuditOrigin
from db.core.base import Table, bigint_column, enum_column, filter_index, now_column, uuid_primary_key
from db.core.policy import Internal, SharedBetween


class AuditEvent(Table, policy=SharedBetween("owner_id", "actor_id")):
    """What somebody changed; never changed itself, which triggers refuse. Partitioned by month of its id, so that old months can be dropped.

    `subject_id` and `credential_id` are ids as the API shows them. There is no actor if the command line or nobody signed in did it, and no
    owner of what belongs to nobody. `db.core.audit` writes the rows.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        *(filter_index("audit_events", column) for column in ("owner_id", "actor_id", "action", "subject_id")),
        filter_index("audit_events"),
        {"postgresql_partition_by": "RANGE (id)"},
    )

    id: Mapped[UUID] = uuid_primary_key()
    created_at: Mapped[datetime] = now_column()
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    credential_id: Mapped[str | None]
    owner_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    action: Mapped[str]
    subject_id: Mapped[str | None]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    after: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    origin: Mapped[AuditOrigin] = enum_column("origin", AuditOrigin)
    ip_address: Mapped[str | None]
    request_id: Mapped[str | None]


class AuditSeal(Table, policy=Internal("Operators check the audit with `trellis audit verify`.")):
    """The SHA-256 of the seal before and of these events, in the order of their ids, see `db.services.audit`; numbered from 1 without a gap."""

    __tablename__ = "audit_seals"
    __table_args__ = (CheckConstraint("cardinality(event_ids) > 0", name="has_events"),)

    number: Mapped[int] = bigint_column(primary_key=True, autoincrement=False)
    event_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    newest_id: Mapped[UUID] = mapped_column(index=True)
    sha256: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_at: Mapped[datetime] = now_column()
