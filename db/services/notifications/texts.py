"""What notifications say: names and ids, nothing of anybody's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db.services.jobs.kinds import spec_of
from db.tables.jobs import JobKind
from db.tables.notifications import EventType

_TEXTS: Mapping[EventType, tuple[str, str]] = {
    EventType.JOB_COMPLETED: ("Completed: {job}{of}", "The job {id} has completed."),
    EventType.JOB_FAILED: ("Failed: {job}{of}", "The job {id} has failed; its error says why."),
    EventType.JOB_CANCELLED: ("Cancelled: {job}{of}", "The job {id} was cancelled."),
    EventType.VERSION_READY: ("Version {number}{of} is ready", "The dataset version {id} can be used."),
    EventType.VERSION_FAILED: ("Version {number}{of} failed", "The dataset version {id} cannot be used; its job says why."),
    EventType.SCHEMA_PROPOSED: ("A schema{of} is proposed", "The proposal {id} waits to be accepted or rejected."),
    EventType.MODEL_VERSION_CREATED: ("Version {number} of the model {name} was made", "The model version {id} can be used."),
    EventType.ALIAS_CHANGED: ("{alias}{of} is version {number}", "The alias {alias} of the model {id} was set."),
    EventType.STUDY_COMPLETED: ("The study {name} has completed", "The study {id} makes no further trials."),
    EventType.STUDY_FAILED: ("The study {name} has failed", "The study {id} makes no further trials; its reason says why."),
    EventType.STUDY_PAUSED: (
        "The study {name} is paused",
        "The study {id} makes no further trials until it is resumed; its reason says why.",
    ),
    EventType.RUN_COMPLETED: ("Run {number}{of} has completed", "The run {id} was finished."),
    EventType.RUN_FAILED: ("Run {number}{of} has failed", "The run {id} was finished as failed, or was abandoned."),
    EventType.EXPORT_READY: ("An export{of} is ready", "The export {id} can be downloaded until it expires."),
    EventType.EXPORT_FAILED: ("An export{of} failed", "The job of the export {id} says why."),
    EventType.CREDITS_LOW: ("The credits{of} are low", "Jobs of the account {id} are refused once they cost more than it can spend."),
    EventType.CREDITS_PURCHASED: ("Credits{of} were bought", "The ledger of the account {id} has the entry."),
    EventType.QUOTA_NEAR: ("The storage{of} is nearly full", "The account {id} uses most of its quota; then it can store nothing more."),
    EventType.LOGIN_NEW_DEVICE: ("A new sign-in to your account", "If it was not you, change your password. Its session is {id}."),
    EventType.PASSWORD_CHANGED: ("Your password was changed", "If it was not you, reset it, and tell whoever runs this Trellis."),
    EventType.WEBHOOK_DISABLED: (
        "The webhook {name} was switched off",
        "Nothing but failures came of {id} for five days; its last error says why.",
    ),
    EventType.TEAM_INVITED: ("You are invited to the team {name}", "Open the link in the mail to join it."),
}
_HEADINGS: Mapping[EventType, str] = {
    EventType.JOB_COMPLETED: "Jobs that have completed",
    EventType.JOB_FAILED: "Jobs that have failed",
    EventType.JOB_CANCELLED: "Jobs that were cancelled",
    EventType.VERSION_READY: "Dataset versions that are ready",
    EventType.VERSION_FAILED: "Dataset versions that have failed",
    EventType.SCHEMA_PROPOSED: "Schemas that are proposed",
    EventType.MODEL_VERSION_CREATED: "New versions of models",
    EventType.ALIAS_CHANGED: "Aliases that were set or removed",
    EventType.STUDY_COMPLETED: "Studies that have completed",
    EventType.STUDY_FAILED: "Studies that have failed",
    EventType.STUDY_PAUSED: "Studies that are paused",
    EventType.RUN_COMPLETED: "Runs that have completed",
    EventType.RUN_FAILED: "Runs that have failed",
    EventType.EXPORT_READY: "Exports that are ready",
    EventType.EXPORT_FAILED: "Exports that have failed",
    EventType.CREDITS_LOW: "Credits that are low",
    EventType.CREDITS_PURCHASED: "Credits that were bought",
    EventType.QUOTA_NEAR: "Storage that is nearly full",
    EventType.LOGIN_NEW_DEVICE: "Sign-ins from new devices",
    EventType.PASSWORD_CHANGED: "Changes of your password",
    EventType.WEBHOOK_DISABLED: "Webhooks that were switched off",
    EventType.TEAM_INVITED: "Invitations to teams",
}
_ALIAS_REMOVED = ("{alias}{of} was removed", "The alias {alias} of the model {id} names no version any more.")


def title_of(event_type: EventType, name: str | None, data: Mapping[str, Any]) -> str:
    """The title of an event: a line with the name of its subject."""
    return _filled(_texts(event_type, data)[0], None, name, data)


def body_of(event_type: EventType, subject_id: str | None, data: Mapping[str, Any]) -> str:
    """What is said below the title, with the subject's id."""
    return _filled(_texts(event_type, data)[1], subject_id, None, data)


def heading_of(event_type: EventType) -> str:
    """What stands above several events of a type."""
    return _HEADINGS[event_type]


def _texts(event_type: EventType, data: Mapping[str, Any]) -> tuple[str, str]:
    is_removal = event_type is EventType.ALIAS_CHANGED and data.get("number") is None
    return _ALIAS_REMOVED if is_removal else _TEXTS[event_type]


def _filled(template: str, subject_id: str | None, name: str | None, data: Mapping[str, Any]) -> str:
    job = spec_of(JobKind(data["kind"])).title if "kind" in data else ""
    of = "" if name is None else f" of {name}"
    return template.format(job=job, of=of, name=name or "", id=subject_id or "", number=data.get("number"), alias=data.get("alias"))
