"""The enum of events, published in the schema. `graph` imports it from here, so that it is not used without a description."""

from __future__ import annotations

from db.tables.notifications import EmailFrequency, EventType
from graph.core.enums import describe

__all__ = ["EmailFrequency", "EventType"]

describe(
    EventType,
    "What has happened. Who made the subject is told; of a team, its ADMINs where nobody is known to have made it, and of what says so below. You are"
    " told of some only if you ask for it by `setNotificationPreference`.",
    JOB_COMPLETED="A job completed, other than a trial of a study. Off by default: what most jobs make is told by another event.",
    JOB_FAILED="A job failed, other than a trial of a study.",
    JOB_CANCELLED="A job was cancelled, other than a trial of a study. Off by default.",
    VERSION_READY="A dataset version can be used.",
    VERSION_FAILED="A dataset version cannot be used. Off by default, as its job has failed.",
    SCHEMA_PROPOSED="A schema was proposed for a dataset version, and waits for an answer; each ingest proposes one. Off by default.",
    MODEL_VERSION_CREATED="A model has a new version: trained, or registered by external code.",
    ALIAS_CHANGED="An alias of a model was set to a version or removed. The ADMINs of a team are told too.",
    STUDY_COMPLETED="A study has ended well.",
    STUDY_FAILED="A study has failed.",
    STUDY_PAUSED="A study is paused for another reason than that somebody asked for it: too few credits.",
    RUN_COMPLETED="An external run was finished. Off by default. Of runs of jobs, the jobs tell.",
    RUN_FAILED="An external run was finished as failed, or was abandoned. Off by default.",
    EXPORT_READY="The file of an export can be downloaded.",
    EXPORT_FAILED="An export failed. Off by default, as its job has failed.",
    CREDITS_LOW="The account can spend fewer credits than `TRELLIS_LOW_CREDITS`. Of a team, its ADMINs are told.",
    CREDITS_PURCHASED="The account was given credits that were bought. Of a team, its ADMINs are told.",
    QUOTA_NEAR="The account uses nine tenths of its storage quota. Of a team, its ADMINs are told.",
    LOGIN_NEW_DEVICE="Somebody signed in to your account from a browser or network that is new to it. Cannot be switched off.",
    PASSWORD_CHANGED="The password of your account was changed. Cannot be switched off.",  # noqa: S106 - a description
    TEAM_INVITED="You were invited to a team; the link is in a mail.",
    WEBHOOK_DISABLED="A webhook was switched off after five days of failures. The ADMINs of a team are told.",
)

describe(
    EmailFrequency,
    "When you are mailed of an event.",
    INSTANT="At once, in a mail of its own.",
    DAILY="With others in a mail each day, if there are any.",
    WEEKLY="With others in a mail each Monday, if there are any.",
    OFF="Not at all.",
)
