"""Delete and restore through the API, and read what there is."""

from __future__ import annotations

from typing import Any

from tests.client import Client

LISTS = ("datasets", "pipelines", "models", "experiments", "runs", "studies")
PROBLEM = "... on Problem { code message }"
DELETED = "kind name deletedAt restorableUntil bytes deletedBy { username } owner { username } subject { id }"
RESTORE = (
    f"mutation($id: ID!) {{ restore(input: {{id: $id}}) {{ ... on RestorePayload {{ name isRenamed restored {{ id }} }} {PROBLEM} }} }}"
)
PURGE = f"mutation($id: ID!) {{ purge(input: {{id: $id}}) {{ ... on PurgePayload {{ purgedId bytes }} {PROBLEM} }} }}"
DELETE_MANY = """mutation($ids: [ID!]!) { deleteMany(input: {ids: $ids}) { ... on Problem { code message }
  ... on DeleteManyPayload { deletedCount results { subjectId isDeleted restorableUntil problem { __typename code message } } } } }"""
TYPES = {
    "dataset": "Dataset",
    "pipeline": "Pipeline",
    "model": "Model",
    "experiment": "Experiment",
    "study": "Study",
    "version": "DatasetVersion",
    "mversion": "ModelVersion",
    "run": "Run",
}


async def delete(client: Client, id: str) -> dict[str, Any]:
    """Delete one thing with its own mutation."""
    type_ = TYPES[id.partition("_")[0]]
    payload = f"... on Delete{type_}Payload {{ deletedId restorableUntil }}"
    payload += " ... on WrongState { state }" if type_ == "Dataset" else " ... on Blocked { reason ids count }"
    return await client.one(f"mutation($id: ID!) {{ delete{type_}(input: {{id: $id}}) {{ {payload} {PROBLEM} }} }}", id=id)


async def restore(client: Client, id: str) -> dict[str, Any]:
    return await client.one(RESTORE, id=id)


async def deleted(client: Client) -> list[dict[str, Any]]:
    """What can be restored, the latest first."""
    return [edge["node"] for edge in (await client.one(f"{{ deleted(first: 100) {{ edges {{ node {{ {DELETED} }} }} }} }}"))["edges"]]


async def listed(client: Client) -> dict[str, list[str]]:
    """The ids of all that lists have, and the counts of all tags."""
    answer = await client.execute(
        f"{{ {' '.join(f'{name}(first: 100) {{ edges {{ node {{ id }} }} }}' for name in LISTS)} tags {{ edges {{ node {{ id usageCount }} }} }} }}"
    )
    counts = [f"{edge['node']['id']} {edge['node']['usageCount']}" for edge in answer.pop("tags")["edges"]]
    return {name: [edge["node"]["id"] for edge in page["edges"]] for name, page in answer.items()} | {"tags": counts}
