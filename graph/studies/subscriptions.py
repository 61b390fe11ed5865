"""Subscription to the trials of a study. A notice only wakes a stream, which then reads the events: a notice may be lost, a row is not."""

from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.core.viewer import Viewer
from db.errors import NotFound
from db.queries import studies
from db.tables.studies import STUDY_ENDS
from graph.core.context import Context, Info
from graph.core.ids import decode
from graph.core.permissions import subscription
from graph.core.session_reads import read_with_retry
from graph.studies.types import TrialEvent


@strawberry.type
class StudySubscriptions:
    @subscription(
        description="The trials of a study as they are made, begin and end, from the first one or from after a cursor: first what has happened, then what"
        " happens, each once. Completes when the study has ended."
    )
    async def study_trials(
        self,
        info: Info,
        id: Annotated[ID, strawberry.argument(description="The study.")],
        after: Annotated[
            str | None,
            strawberry.argument(description="A `TrialEvent.cursor` of this study; by default, the stream starts with the first trial."),
        ] = None,
    ) -> AsyncGenerator[TrialEvent, None]:
        context = info.context
        study_id = decode("study", id)
        rows = await studies.live_by_id(context.database, context.signed_in_viewer, [study_id])
        if study_id not in rows:
            raise NotFound(id)
        after = context.progress.after or after
        sequence = 0 if after is None else studies.sequence_of(after, study_id, rows[study_id].last_sequence)
        return _stream(context, study_id, sequence)


async def _stream(context: Context, study_id: UUID, sequence: int) -> AsyncGenerator[TrialEvent, None]:
    assert context.session is not None
    session = context.session
    with context.feed.signal(study_id, session) as signal:
        while True:
            viewer = session.viewer
            # Read the status before the events: a study that has ended has no more.
            has_ended = await read_with_retry(session, lambda: _has_ended(context, session.viewer, study_id))
            events = await read_with_retry(session, lambda: studies.events_after(context.database, session.viewer, study_id, sequence))  # noqa: B023 - called at once
            for event in events:
                session.check()
                if session.viewer != viewer:
                    break
                sequence = event.sequence
                if event.trial_id is not None:
                    cursor = context.progress.last_cursor = studies.cursor_of(study_id, sequence)
                    yield TrialEvent(cursor=cursor, trial_id=event.trial_id, study_id=study_id)
            if session.viewer != viewer or len(events) == studies.REPLAY:
                continue
            if has_ended:
                return
            await signal.wait()


async def _has_ended(context: Context, viewer: Viewer, study_id: UUID) -> bool:
    """Return whether the study has ended. Raises `NotFound` if the viewer may no longer see it."""
    rows = await studies.by_id(context.database, viewer, [study_id])
    if study_id not in rows:
        raise NotFound(str(study_id))
    return rows[study_id].status in STUDY_ENDS
