"""Proposes a schema for a table: the meaning and the role of each column, the target and the problem type.

The proposal is a pure function of the profile and of the first rows, so the same version always has the same proposal.
"""

from workers.ml.schema_proposal.proposal import AGENT, Declared, Proposal, propose

__all__ = ["AGENT", "Declared", "Proposal", "propose"]
