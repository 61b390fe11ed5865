"""Proposed schemas: an accepted one for each READY version, and one for each other status."""

from __future__ import annotations

from db.tables import SchemaProposal
from tests.client import Client
from tests.factories import Factory

_COLUMNS = """'[{"name": "x", "type": "INTEGER", "semantic_type": "number", "role": "TARGET", "nullable": false, "format": "0", "confidence": 0.9,
  "reason": "Its values are numbers.", "samples": [1, 2]}]'"""

_ROWS = f"""
INSERT INTO schema_proposals (version_id, dataset_id, job_id, status, confidence, agent, columns, problem_type, target_column, decided_at, decided_by_id)
SELECT v.id, d.id, (SELECT j.id FROM jobs j WHERE j.dataset_version_id = v.id ORDER BY j.id LIMIT 1), 'accepted', 0.5, 'rules/1', {_COLUMNS}, 'regression',
  'x', now(), d.owner_id
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id WHERE u.username = :owner AND v.status = 'ready';
"""

_STATES = f"""
INSERT INTO schema_proposals (version_id, dataset_id, status, confidence, agent, columns, rejection_reason, decided_at)
SELECT source.version_id, source.dataset_id, status, 0.5, 'rules/1', {_COLUMNS},
  CASE status WHEN 'rejected' THEN 'It is wrong.' END, CASE status WHEN 'rejected' THEN now() END
FROM (SELECT v.id AS version_id, d.id AS dataset_id FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id
  WHERE u.username = :owner AND v.status = 'ready' ORDER BY v.id LIMIT 1) source, unnest(ARRAY['proposed', 'rejected', 'superseded']) status;
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    answer = await ada.one(
        "query($id: ID!) { node(id: $id) { ... on DatasetVersion { schemaProposals(first: 1) { edges { node { id } } } } } }",
        id=ids["ready"],
    )
    ids["proposal"] = answer["schemaProposals"]["edges"][0]["node"]["id"]
    accept = "mutation($id: ID!) { acceptSchemaProposal(input: {id: $id}) { __typename } }"
    assert await ada.one(accept, id=ids["proposal"]) == {"__typename": "AcceptSchemaProposalPayload"}


FACTORY = Factory(
    ids={"proposal": SchemaProposal},
    after=("datasets", "jobs"),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    story_statuses=(("SchemaProposal", "ACCEPTED"),),
    unfilled=("SchemaProposal.rejectionReason",),
)
