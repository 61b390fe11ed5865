"""The tables, one module per domain. All modules are imported here, so that the metadata is complete; names that several domains use are listed."""

from db.core.base import Table
from db.core.discovery import import_submodules
from db.tables.accounts import (
    AccountToken,
    ApiKey,
    BackupCode,
    Invitation,
    KnownDevice,
    LoginChallenge,
    LoginEvent,
    Membership,
    Registration,
    User,
    UserCounter,
    UserSession,
)
from db.tables.audit import AuditEvent, AuditSeal
from db.tables.billing import CreditBudget, CreditBudgetJob, CreditPackage, CreditPurchase, CreditTransaction, PaymentEvent
from db.tables.datasets import Dataset, DatasetProfile, DatasetVersion, StoredObject, Upload
from db.tables.deletions import Deletion
from db.tables.experiments import ArtifactUpload, Experiment, LoggedModel, MetricPoint, Run, RunInput, RunMetric, RunParameter, StagedPoint
from db.tables.explanations import Explanation
from db.tables.exports import Export
from db.tables.items import DatasetItem
from db.tables.jobs import (
    IdempotencyKey,
    Job,
    JobAttempt,
    JobCheckpoint,
    JobDocument,
    JobEvent,
    JobInput,
    JobNode,
    JobOutput,
    MaintenanceTaskState,
    OwnerTurn,
    Uptime,
    Worker,
)
from db.tables.learning import Tutorial, TutorialProgress
from db.tables.mail import DigestItem, EmailMessage, SuppressedAddress
from db.tables.models import Artifact, Model, ModelAliasEvent, ModelDataset, ModelVersion
from db.tables.notifications import Inbox, Notification, NotificationPreference, OutboxEvent
from db.tables.oauth import OAuthFlow, OAuthIdentity
from db.tables.pipelines import Pipeline, PipelineInput, PipelineSnapshot, StepDefinition
from db.tables.proposals import SchemaProposal
from db.tables.retention import DroppedPartition, RetentionTotal
from db.tables.saved_searches import SavedSearch
from db.tables.schedules import ImportSchedule
from db.tables.search import SearchEntry
from db.tables.studies import Study, StudyEvent, Trial, TrialRung
from db.tables.tags import Tag, Tagging
from db.tables.usage import ApiMetric, ApiRequest
from db.tables.webhooks import WebhookDelivery, WebhookEndpoint

__all__ = [
    "AccountToken",
    "ApiKey",
    "ApiMetric",
    "ApiRequest",
    "Artifact",
    "ArtifactUpload",
    "AuditEvent",
    "AuditSeal",
    "BackupCode",
    "CreditBudget",
    "CreditBudgetJob",
    "CreditPackage",
    "CreditPurchase",
    "CreditTransaction",
    "Dataset",
    "DatasetItem",
    "DatasetProfile",
    "DatasetVersion",
    "Deletion",
    "DigestItem",
    "DroppedPartition",
    "EmailMessage",
    "Experiment",
    "Explanation",
    "Export",
    "IdempotencyKey",
    "ImportSchedule",
    "Inbox",
    "Invitation",
    "Job",
    "JobAttempt",
    "JobCheckpoint",
    "JobDocument",
    "JobEvent",
    "JobInput",
    "JobNode",
    "JobOutput",
    "KnownDevice",
    "LoggedModel",
    "LoginChallenge",
    "LoginEvent",
    "MaintenanceTaskState",
    "Membership",
    "MetricPoint",
    "Model",
    "ModelAliasEvent",
    "ModelDataset",
    "ModelVersion",
    "Notification",
    "NotificationPreference",
    "OAuthFlow",
    "OAuthIdentity",
    "OutboxEvent",
    "OwnerTurn",
    "PaymentEvent",
    "Pipeline",
    "PipelineInput",
    "PipelineSnapshot",
    "Registration",
    "RetentionTotal",
    "Run",
    "RunInput",
    "RunMetric",
    "RunParameter",
    "SavedSearch",
    "SchemaProposal",
    "SearchEntry",
    "StagedPoint",
    "StepDefinition",
    "StoredObject",
    "Study",
    "StudyEvent",
    "SuppressedAddress",
    "Table",
    "Tag",
    "Tagging",
    "Trial",
    "TrialRung",
    "Tutorial",
    "TutorialProgress",
    "Upload",
    "Uptime",
    "User",
    "UserCounter",
    "UserSession",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Worker",
]

import_submodules(__name__)
