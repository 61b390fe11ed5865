"""A study under its row's lock, and what changes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Integer, Row, Table, Uuid, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Notice, Work
from db.tables import Study, StudyEvent

_STUDY_ID = bindparam("p_study_id", type_=Uuid())
# The time is that before the lock was waited for.
_LOCK = select(*Study.__table__.c, func.clock_timestamp().label("now")).where(Study.id == _STUDY_ID).with_for_update(key_share=True)
_numbered = (
    func.unnest(bindparam("p_trial_ids", type_=ARRAY(Uuid)), bindparam("p_sequences", type_=ARRAY(Integer)))
    .table_valued("trial_id", "sequence", name="numbered")
    .render_derived()
)
_ADDED_EVENTS = (
    insert(cast("Table", StudyEvent.__table__))
    .from_select(["study_id", "sequence", "trial_id"], select(_STUDY_ID, _numbered.c.sequence, _numbered.c.trial_id))
    .cte("added_events")
)


@dataclass(slots=True)
class State:
    """A locked study and what changes of it. `events` are the trials that changed, in order, None for the study itself."""

    row: Row[Any]
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    events: list[UUID | None] = field(default_factory=list["UUID | None"])

    def get(self, name: str) -> Any:
        return self.values.get(name, getattr(self.row, name))

    def add(self, name: str, amount: int) -> None:
        self.values[name] = self.get(name) + amount

    def set(self, **values: Any) -> None:
        """Set columns of the study; a change of its status or reason is an event."""
        changed = {name: value for name, value in values.items() if self.get(name) != value}
        self.values |= changed
        if changed.keys() & {"status", "reason"}:
            self.events.append(None)

    def stop_clock(self) -> None:
        """Add the time since it last began to run to what it has used."""
        since = self.get("running_since")
        if since is not None:
            self.values |= {
                "seconds_used": self.get("seconds_used") + max(0.0, (self.row.now - since).total_seconds()),
                "running_since": None,
            }

    @property
    def seconds(self) -> float:
        """How long it has been running, without pauses."""
        since = self.get("running_since")
        return self.get("seconds_used") + (0.0 if since is None else (self.row.now - since).total_seconds())

    @property
    def has_results(self) -> bool:
        return self.get("trials_completed") + self.get("trials_pruned") > 0

    async def write(self, work: Work) -> None:
        """Write what changed, and the events; readers are notified after the commit."""
        statement = update(Study).where(Study.id == _STUDY_ID)
        parameters: dict[str, Any] = {"p_study_id": self.row.id}
        if self.events:
            last = self.row.last_sequence + len(self.events)
            self.values["last_sequence"] = last
            statement = statement.add_cte(_ADDED_EVENTS)
            parameters |= {"p_trial_ids": self.events, "p_sequences": list(range(self.row.last_sequence + 1, last + 1))}
            work.notify(Notice(self.row.id, last))
        if self.values:
            await work.run(statement.values(self.values), parameters)


async def lock(work: Work, study_id: UUID) -> State | None:
    """Lock a study; None if there is none."""
    row = await work.first(_LOCK, {"p_study_id": study_id})
    return None if row is None else State(row)
