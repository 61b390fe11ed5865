"""When a schedule runs next: cron expressions in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from db.core.checks import Checks

MIN_INTERVAL = timedelta(minutes=5)
MAX_LENGTH = 100
_SAMPLED = 300  # runs that are looked at for one that follows too soon
_SAMPLED_TIME = timedelta(days=400)


def next_run(cron: str, timezone: str, after: datetime) -> datetime | None:
    """Return the first time after `after`, in UTC; None if there is none in 50 years.

    What falls into the hour that a change of the clock leaves out runs right after it; what falls into the hour that is there twice runs once.
    """
    run = next(CronSim(cron, after.astimezone(ZoneInfo(timezone))), None)
    return None if run is None else run.astimezone(UTC)


def check(cron: str, timezone: str, now: datetime, checks: Checks) -> None:
    """Validate an expression of five fields and a time zone."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        checks.add("timezone", message=f"There is no time zone {timezone[:100]!r}. Name one as Europe/Berlin, America/New_York or UTC.")
        return
    try:
        if len(cron) > MAX_LENGTH or len(cron.split()) != 5:
            raise CronSimError("five fields are expected")  # noqa: TRY301 - reported as the library's own errors
        runs = CronSim(cron, now.astimezone(zone))
    except CronSimError as error:
        checks.add("cron", message=f"This is no cron expression of minute, hour, day, month and weekday, as `30 6 * * 1-5`: {error}.")
        return
    previous = next(runs, None)
    if previous is None:
        checks.add("cron", message="This expression names a time that never comes.")
    for _ in range(_SAMPLED):
        run = next(runs, None)
        if previous is None or run is None or run - now > _SAMPLED_TIME:
            return
        if run.astimezone(UTC) - previous.astimezone(UTC) < MIN_INTERVAL:
            checks.add("cron", message=f"It would run again after less than {MIN_INTERVAL.seconds // 60} minutes.")
            return
        previous = run
