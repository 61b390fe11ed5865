"""Queries of proposed schemas. They have samples of the data, so those of a deleted dataset are not served, by lookups or by edges."""

from __future__ import annotations

from sqlalchemy import Text, literal_column, select

from db.core.batch import rows_by_key
from db.core.criteria import Filters, Orders
from db.core.listing import Listing
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.tables import Dataset, DatasetVersion, SchemaProposal
from db.tables.proposals import SchemaProposalStatus

COLUMNS = (
    SchemaProposal.id,
    SchemaProposal.version_id,
    SchemaProposal.dataset_id,
    SchemaProposal.job_id,
    SchemaProposal.status,
    SchemaProposal.confidence,
    SchemaProposal.agent,
    SchemaProposal.columns.label("proposed_columns"),
    SchemaProposal.problem_type,
    SchemaProposal.target_column,
    SchemaProposal.rejection_reason,
    SchemaProposal.created_at,
    SchemaProposal.decided_at,
    SchemaProposal.decided_by_id,
)


def proposals(viewer: Viewer) -> Rows:
    """The proposals a viewer may see."""
    statement = select(*COLUMNS).join(Dataset, Dataset.id == SchemaProposal.dataset_id)
    statement = statement.join(DatasetVersion, DatasetVersion.id == SchemaProposal.version_id)
    return statement.where(visible(SchemaProposal, viewer), Dataset.deleted_at.is_(None), DatasetVersion.deleted_at.is_(None))


def _accepted(viewer: Viewer) -> Rows:
    # A literal, not a parameter: only then can a generic plan use the partial index.
    return proposals(viewer).where(SchemaProposal.status == literal_column(f"'{SchemaProposalStatus.ACCEPTED.value}'", Text))


by_id = rows_by_key(proposals, SchemaProposal.id)
of_version = Listing(proposals, Orders(SchemaProposal), Filters(SchemaProposal), SchemaProposal.version_id)
accepted_of_dataset = rows_by_key(_accepted, SchemaProposal.dataset_id)
"""The contract of each dataset that has one."""
