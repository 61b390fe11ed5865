"""The enums of proposed schemas, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from db.tables.proposals import ColumnRole, SchemaProposalStatus
from graph.core.enums import describe

__all__ = ["ColumnRole", "SchemaProposalStatus"]

describe(
    SchemaProposalStatus,
    "Whether a proposed schema was decided on.",
    PROPOSED="It can be accepted or rejected.",
    ACCEPTED="It is the contract of its dataset: later versions are compared with it.",
    REJECTED="It was rejected; `rejectionReason` says why.",
    SUPERSEDED="A newer one was proposed for the version, or another one of the dataset was accepted.",
)
describe(
    ColumnRole,
    "What a column is for.",
    FEATURE="Models learn from it.",
    TARGET="Models predict it.",
    IDENTIFIER="It identifies a row: no two rows have the same value.",
    TIMESTAMP="It tells when the row was.",
    GROUP="Rows with the same value belong together, such as those of one customer.",
    WEIGHT="How much the row counts.",
    IGNORED="It is of no use, and not compared with the contract.",
)
