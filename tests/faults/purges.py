"""Datasets that viewers delete and purge while faults strike."""

from __future__ import annotations

import itertools
from uuid import UUID

from graph.core.ids import decode
from tests.faults.cluster import eventually
from tests.faults.viewers import Viewer
from tests.faults.workload import CSV, Workload

SETTINGS = {
    "TRELLIS_MAINTENANCE_PURGE_DELETED": "1",
    "TRELLIS_MAINTENANCE_REMOVE_UNREFERENCED": "1",
}  # seconds between the runs of these tasks
DELETE = (
    "mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename ... on DeleteDatasetPayload { deletedId }"
    " ... on Problem { code message } } }"
)
PURGE = "mutation($id: ID!) { purge(input: {id: $id}) { __typename ... on PurgePayload { purgedId } ... on Problem { code message } } }"
_LEFT = """
SELECT 'deletion' AS what, name FROM deletions WHERE id = ANY($1)
UNION ALL SELECT 'dataset', name FROM datasets WHERE id = ANY($1) AND name <> 'purged'
UNION ALL SELECT 'file', object_key FROM stored_objects WHERE object_key LIKE ANY(SELECT '%/' || id || '/%' FROM unnest($1::uuid[]) id)"""
_NUMBERS = itertools.count(1)


class Purges:
    """Deletes and purges datasets with a version each, one at a call."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._waiting: list[tuple[Viewer, str]] = []
        self._purged: list[UUID] = []

    async def prepare(self, count: int) -> None:
        """Create so many datasets for each viewer, before any fault: a creation cannot be repeated."""
        for viewer in self._workload.viewers:
            for number in itertools.islice(_NUMBERS, count):
                name = f"{viewer.name}'s data to be purged {number}"
                # The bytes are of this dataset alone, so that its file must go.
                dataset = await viewer.client().create_dataset(name)
                _, job = await viewer.client().upload(dataset, "data.csv", (CSV + f"{number},{number},b\n").encode())
                ended = await viewer.client().wait(job)
                assert ended["status"] == "COMPLETED", ended
                self._waiting.append((viewer, dataset))
        self._workload.random.shuffle(self._waiting)

    async def purge_one(self) -> None:
        """Delete a dataset and purge it, if one is left. Answers that a fault took are asked for again, when the thing may be gone already."""
        if not self._waiting:
            return
        viewer, dataset = self._waiting.pop()
        self._purged.append(decode("dataset", dataset))
        for mutation, done in ((DELETE, "DeleteDatasetPayload"), (PURGE, "PurgePayload")):
            answer = await viewer.execute_with_retries(mutation, id=dataset)
            assert answer["__typename"] in {done, "NotFound", "WrongState"}, answer

    async def wait_until_gone(self, within: float) -> int:
        """Return how many were purged. Raises `AssertionError` if something of what was purged is left after so many seconds."""

        async def is_gone() -> bool:
            return not await self._workload.cluster.rows(_LEFT, self._purged)

        await eventually(is_gone, within, f"nothing left of {len(self._purged)} purged datasets")
        return len(self._purged)
