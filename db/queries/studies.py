"""Queries of studies, their trials, and the events that a stream of trials replays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Row, Uuid, bindparam, case, func, select

from db.core.batch import rows_by_key, rows_by_parent
from db.core.criteria import Filters, Orders
from db.core.goal import Goal
from db.core.listing import Listing
from db.core.page import Sort, decode_cursor, encode_cursor
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import InvalidCursor
from db.tables import Job, Study, StudyEvent, Trial
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus

REPLAY = 500  # events that a stream reads at once
_EXAMPLES = 100  # jobs that an estimate is based on, the newest


_INTERNAL = {
    "ends_as",
    "snapshot_id",
    "input_version_ids",
    "extras",
    "open_trials",
    "last_number",
    "running_since",
    "seconds_used",
    "best_value",
    "importances_of",
}
_LABELS = {"space": "searched", "importances": "ranked"}
_STUDY = tuple(column.label(_LABELS.get(column.name, column.name)) for column in Study.__table__.c if column.name not in _INTERNAL)


def with_deleted(viewer: Viewer) -> Rows:
    """The studies a viewer may see, deleted ones included, since edges still lead to them."""
    return select(*_STUDY).where(visible(Study, viewer))


def studies(viewer: Viewer) -> Rows:
    """The studies that lists and lookups by id find: those not deleted."""
    return with_deleted(viewer).where(Study.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, Study.id)
live_by_id = rows_by_key(studies, Study.id)
listing = Listing(studies, Orders(Study), Filters(Study))
of_owner = listing.under(Study.owner_id)

_TRIAL = (
    Trial.id,
    Trial.study_id,
    Trial.number,
    Trial.status,
    Trial.job_id,
    Trial.run_id,
    Trial.parameters.label("drawn"),
    Trial.suggested_from,
    Trial.value,
    Trial.pruning.label("decision"),
    Trial.created_at,
    Trial.started_at,
    Trial.completed_at,
)


def trials(viewer: Viewer) -> Rows:
    """The trials a viewer may see, those of deleted studies included."""
    return select(*_TRIAL).where(visible(Trial, viewer))


def live_trials(viewer: Viewer) -> Rows:
    """The trials of studies that are not deleted."""
    return trials(viewer).join(Study, Study.id == Trial.study_id).where(Study.deleted_at.is_(None))


trial_by_id = rows_by_key(trials, Trial.id)
live_trial_by_id = rows_by_key(live_trials, Trial.id)
trial_of_run = rows_by_key(trials, Trial.run_id)
trials_of_study = Listing(trials, Orders(Trial), Filters(Trial)).under(Trial.study_id)


def _best(viewer: Viewer) -> Rows:
    columns = (Trial.id, Trial.study_id, Trial.number, Trial.value, Trial.completed_at)
    return select(*columns).join(Study, Study.id == Trial.study_id).where(visible(Trial, viewer), Trial.is_best)


# In the order in which they were counted; of two jobs that end at once, the later one may be counted first.
best_values = rows_by_parent(_best, Trial.study_id, case((Study.goal == Goal.MINIMIZE, -Trial.value), else_=Trial.value).asc())

_EVENT = Sort("STUDY_EVENT", StudyEvent.sequence, StudyEvent.study_id, descending=False, kind="int")


def cursor_of(study_id: UUID, sequence: int) -> str:
    """The cursor of an event of a study."""
    return encode_cursor(_EVENT, sequence, study_id)


def sequence_of(cursor: str, study_id: UUID, last: int) -> int:
    """The sequence in a cursor of this study. Raises `InvalidCursor` for another study's, one past its `last` event, or anything else."""
    sequence, key = decode_cursor(_EVENT, cursor)
    if key != study_id or not 1 <= sequence <= last:
        raise InvalidCursor(
            f"The cursor {cursor[:60]!r} names no event of this study. Give one that came with an event, or none to start over."
        )
    return sequence


def _events_after(viewer: Viewer) -> Rows:
    is_later = (StudyEvent.study_id == bindparam("study_id", type_=Uuid)) & (StudyEvent.sequence > bindparam("sequence", type_=BigInteger))
    columns = (StudyEvent.sequence, StudyEvent.study_id, StudyEvent.trial_id)
    return select(*columns).where(is_later, visible(StudyEvent, viewer)).order_by(StudyEvent.sequence).limit(REPLAY)


_EVENTS_AFTER = PreparedRows(_events_after, "study_id", "sequence")


async def events_after(database: Database, viewer: Viewer, study_id: UUID, sequence: int) -> Sequence[Row[Any]]:
    """The next events of a study, in order; those without a trial are of the study itself."""
    return await _EVENTS_AFTER(database, viewer, study_id=study_id, sequence=sequence)


@dataclass(frozen=True, slots=True)
class Duration:
    """How long jobs took, the median in seconds, and on how many that is based."""

    jobs: int
    median_seconds: float | None


async def duration_of_trainings(database: Database, viewer: Viewer, pipeline_id: UUID) -> Duration:
    """How long the newest trainings took of a pipeline that the viewer may see."""
    conditions: list[ColumnElement[bool]] = [Job.pipeline_id == pipeline_id, Job.kind == JobKind.TRAIN, Job.status == JobStatus.COMPLETED]
    newest = select(func.extract("epoch", Job.completed_at - Job.started_at).label("seconds")).where(visible(Job, viewer), *conditions)
    examples = newest.order_by(Job.created_at.desc(), Job.id.desc()).limit(_EXAMPLES).subquery("examples")
    median = func.percentile_cont(0.5).within_group(examples.c.seconds).label("median")
    (row,) = await database.rows(select(func.count().label("jobs"), median).select_from(examples))
    return Duration(row.jobs, None if row.median is None else float(row.median))
