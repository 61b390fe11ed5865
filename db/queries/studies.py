"""Queries of studies, their trials, and the events that a stream of trials replays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, Subquery, Uuid, bindparam, case, func, select

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
from db.queries.tags import has_tags
from db.tables import Job, Run, Study, StudyEvent, Tagging, Trial
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus
from db.tables.studies import TrialStatus

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
listing = Listing(studies, Orders(Study), Filters(Study, tags=has_tags(Tagging.study_id, Study.id)))
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
    select(Run.architecture).where(Run.id == Trial.run_id).scalar_subquery().label("network"),
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

MAX_FRONT = 500  # trials of a Pareto front, those with the best values


def _front() -> Subquery:
    """The trials that none of their study is both as small as and as good as; of equal ones the first."""
    loss = case((Study.goal == Goal.MINIMIZE, Trial.value), else_=-Trial.value)
    of_study, smaller_first = Trial.study_id, (Trial.parameter_count, loss, Trial.number)
    best_of_smaller = func.min(loss).over(partition_by=of_study, order_by=smaller_first, rows=(None, -1)).label("best_of_smaller")
    sized = (
        select(Trial.id, of_study, loss.label("loss"), best_of_smaller)
        .join(Study, Study.id == Trial.study_id)
        .where(Trial.parameter_count.is_not(None), Trial.status == TrialStatus.COMPLETED)
        .subquery("sized")
    )
    position = func.row_number().over(partition_by=sized.c.study_id, order_by=sized.c.loss).label("position")
    is_better = sized.c.best_of_smaller.is_(None) | (sized.c.loss < sized.c.best_of_smaller)
    return select(sized.c.id, sized.c.study_id, position).where(is_better).subquery("front")


_FRONT = _front()


def _of_front(viewer: Viewer) -> Rows:
    return trials(viewer).join(_FRONT, _FRONT.c.id == Trial.id).where(_FRONT.c.position <= MAX_FRONT)


pareto_front = rows_by_parent(_of_front, _FRONT.c.study_id, Trial.parameter_count, Trial.number)

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


def _duration_of_trainings(viewer: Viewer) -> Rows:
    of_pipeline = Job.pipeline_id == bindparam("pipeline_id", type_=Uuid)
    is_training = (Job.kind == JobKind.TRAIN) & (Job.status == JobStatus.COMPLETED)
    newest = select(func.extract("epoch", Job.completed_at - Job.started_at).label("seconds")).where(
        visible(Job, viewer), of_pipeline, is_training
    )
    examples = newest.order_by(Job.created_at.desc(), Job.id.desc()).limit(_EXAMPLES).subquery("examples")
    median = func.percentile_cont(0.5).within_group(examples.c.seconds).label("median")
    return select(func.count().label("jobs"), median).select_from(examples)


_DURATION_OF_TRAININGS = PreparedRows(_duration_of_trainings, "pipeline_id")


async def duration_of_trainings(database: Database, viewer: Viewer, pipeline_id: UUID) -> Duration:
    """How long the newest trainings took of a pipeline that the viewer may see."""
    (row,) = await _DURATION_OF_TRAININGS(database, viewer, pipeline_id=pipeline_id)
    return Duration(row.jobs, None if row.median is None else float(row.median))
