"""Subscription to one's notifications. A notice only wakes a stream, which then reads the rows: a notice may be lost, a row is not."""

from collections.abc import AsyncGenerator
from typing import Annotated

import strawberry

from db.queries import notifications
from graph.core.context import Context, Info
from graph.core.errors import BadUserInput
from graph.core.permissions import subscription
from graph.core.scalars import BigInt
from graph.core.session_reads import read_with_retry
from graph.notifications.types import Notification


@strawberry.type
class NotificationSubscriptions:
    @subscription(
        description="Your notifications as they are added, each once. With `afterSequence`, first those since then. It does not end by itself."
    )
    async def notification_added(
        self,
        info: Info,
        after_sequence: Annotated[
            BigInt | None,
            strawberry.argument(description="The `sequence` of the last one that you have; 0 for all. By default, only new ones are sent."),
        ] = None,
    ) -> AsyncGenerator[Notification, None]:
        context = info.context
        if context.progress.after is not None:  # a stream that goes on
            after_sequence = notifications.sequence_of(context.progress.after)
        last = await notifications.last_sequence(context.database, context.signed_in_viewer)
        if after_sequence is not None and not 0 <= after_sequence <= last:
            raise BadUserInput(f"`afterSequence` is {after_sequence}; your last notification has the number {last}.")
        return _stream(context, last if after_sequence is None else after_sequence)


async def _stream(context: Context, sequence: int) -> AsyncGenerator[Notification, None]:
    assert context.session is not None
    session = context.session
    with context.feed.signal(session.viewer.id, session) as signal:
        while True:
            viewer = session.viewer
            rows = await read_with_retry(session, lambda: notifications.after(context.database, session.viewer, sequence))  # noqa: B023 - called at once
            for row in rows:
                session.check()
                if session.viewer != viewer:  # their rights have changed, perhaps so that they may not see the others
                    break
                sequence = row.sequence
                context.progress.last_cursor = notifications.cursor_of(row)
                yield Notification.of(row)
            if session.viewer == viewer and len(rows) < notifications.AT_ONCE:
                await signal.wait()
