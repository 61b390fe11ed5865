"""People at the API: they submit everything twice, cancel, do again, and watch; and they note what they were told."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from sqlalchemy import select

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts, credits
from db.settings import StateSettings
from db.tables import User
from db.tables.billing import CreditKind
from graph.core.ids import decode
from tests.client import Client, GraphQLErrors
from tests.faults.bodies import SCRIPT
from tests.faults.ground import Ground, until
from tests.faults.people import WAITING, Submit, Viewer, Watch

RUN = (
    "mutation($input: RunPipelineInput!) { runPipeline(input: $input) { __typename ... on RunPipelinePayload { job { id } }"
    " ... on Problem { code message } } }"
)
COMPLETE = (
    "mutation($input: CompleteUploadInput!) { completeUpload(input: $input) { __typename ... on CompleteUploadPayload { job { id } }"
    " ... on Problem { code message } } }"
)
CANCEL = (
    "mutation($input: CancelJobInput!) { cancelJob(input: $input) { __typename ... on CancelJobPayload { job { id status } }"
    " ... on Problem { code message } } }"
)
RETRY = (
    "mutation($input: RetryJobInput!) { retryJob(input: $input) { __typename ... on RetryJobPayload { job { id } }"
    " ... on Problem { code message } } }"
)
EVENTS = "subscription($id: ID!, $after: String) { jobEvents(id: $id, after: $after) { cursor sequence status } }"
PLENTY = 10**6  # credits; what jobs hold and cost is looked at, not how they are refused
NAMES = ("ada", "bob", "cleo", "dora", "emil", "fay")
MIXED = ("nap 0.1", "linger 0.6 0.1", "nap 0.3", "nap 0.2")  # what is under way while something strikes
CSV = "x,y,label\n" + "".join(f"{i},{i * 37 % 11},{'a' if i % 3 else 'b'}\n" for i in range(60))
PROCESSING = [("data", "dataset", {}), ("scale", "scale", {})]
TRAINING = [
    ("data", "dataset", {}),
    ("split", "split", {"test_fraction": 0.3}),
    ("train", "train_random_forest", {"target": "label", "n_estimators": 5}),
    ("score", "evaluate", {}),
]
BOOSTING = [
    ("data", "dataset", {}),
    ("split", "split", {"validation_fraction": 0.2}),
    ("train", "train_lightgbm", {"target": "label", "n_estimators": 400}),
]
TOGETHER = 0.5  # share of the submits whose two calls are made at the same moment, at two APIs where there are two


class Crowd:
    """All of them, and their notes."""

    def __init__(self, ground: Ground, chance: random.Random) -> None:
        self.ground = ground
        self.random = chance
        self.viewers: list[Viewer] = []
        self.submits: list[Submit] = []
        self.cancels: set[UUID] = set()
        self.watches: list[Watch] = []
        self._watching: set[asyncio.Task[None]] = set()
        self._count = itertools.count(1)

    async def gather(self, names: tuple[str, ...] = NAMES[:3]) -> None:
        """Each has plenty of credits, a dataset with a READY version, and another for what pipelines write."""
        straight = StateSettings(database_url=self.ground.straight["TRELLIS_DATABASE_URL"])
        async with Database.open(straight) as database, database.work(SYSTEM) as work:
            for name in names:
                token = await accounts.add_user(work, f"{name}@example.org", name, name.capitalize(), UserRole.MEMBER)
                owner_id = await work.scalar(select(User.id).where(User.username == name))
                await credits.grant(work, owner_id, CreditKind.PURCHASE, PLENTY)
                self.viewers.append(Viewer(name, token, self.ground))
        await self.ground.rows("UPDATE users SET tier = 'enterprise'")
        await asyncio.gather(*map(self._settle_in, self.viewers))

    async def _settle_in(self, viewer: Viewer) -> None:
        client = viewer.client()
        viewer.version = await client.ingest(f"{viewer.name}'s table", CSV)
        viewer.output = await client.create_dataset(f"{viewer.name}'s results")

    async def prepare(self, scripts: list[str]) -> None:
        """Make every pipeline while all is well: making one twice is refused, and so cannot be insisted on."""
        named = [("scaling", PROCESSING), ("forest", TRAINING), ("boosting", BOOSTING)]
        named += [(SCRIPT + script, PROCESSING) for script in scripts]
        await asyncio.gather(*(viewer.pipeline(name, steps) for viewer in self.viewers for name, steps in named))

    async def leave(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for viewer in self.viewers:
            await viewer.close()

    # Asking

    async def script(self, script: str, expected: str | None = "completed", *, priority: int = 5) -> Submit:
        """Somebody submits a script such as "nap 0.2", twice."""
        viewer = self.random.choice(self.viewers)
        pipeline = await viewer.pipeline(SCRIPT + script, PROCESSING)
        return await self._run(viewer, script, expected, pipeline, {"outputDatasetId": viewer.output, "priority": priority})

    async def process(self) -> Submit:
        """A real pipeline that scales two columns."""
        viewer = self.random.choice(self.viewers)
        pipeline = await viewer.pipeline("scaling", PROCESSING)
        return await self._run(viewer, "process", "completed", pipeline, {"outputDatasetId": viewer.output})

    async def train(self) -> Submit:
        """A real forest of five trees."""
        viewer = self.random.choice(self.viewers)
        pipeline = await viewer.pipeline("forest", TRAINING)
        return await self._run(viewer, "train", "completed", pipeline, {"modelName": f"{viewer.name}'s forest"})

    async def scripts(self, *scripts: str) -> list[Submit]:
        """Several, at once."""
        return await asyncio.gather(*map(self.script, scripts))

    @asynccontextmanager
    async def busy(self, *scripts: str, every: float = 0.15) -> AsyncGenerator[list[Submit]]:
        """Jobs are submitted, and some of them watched, for as long as the block lasts: what happens meanwhile happens to jobs under way."""
        submits = [await self.script(scripts[0])]
        await self.reach(submits[0], "running", "completed")
        is_over = asyncio.Event()

        async def go_on() -> None:
            for turn in itertools.count(1):
                submits.append(await self.script(scripts[turn % len(scripts)]))
                if turn % 3 == 0:
                    self.watch(submits[-1], churn=0.2)
                with suppress(TimeoutError):
                    await asyncio.wait_for(is_over.wait(), every)
                if is_over.is_set():
                    return

        people = asyncio.create_task(go_on())
        try:
            yield submits
        finally:
            is_over.set()
            await people

    async def every_slot(self, workers: int) -> None:
        """Raises unless as many jobs run at once as so many workers have slots: none has leaked."""
        wanted = workers * self.ground.slots
        naps = [await self.script("nap 600") for _ in range(wanted)]

        async def all_run() -> bool:
            query = "SELECT 1 FROM jobs WHERE id = ANY($1) AND status = 'running'"
            return len(await self.ground.rows(query, [nap.job for nap in naps])) == wanted

        try:
            await until(all_run, 20.0, f"{wanted} jobs running at once")
        finally:
            await asyncio.gather(*(self.cancel(nap.job) for nap in naps))
        await self.ended(*naps)

    async def _run(self, viewer: Viewer, script: str, expected: str | None, pipeline: str, more: dict[str, Any]) -> Submit:
        number = next(self._count)
        given = {"pipelineId": pipeline, "datasetVersionId": viewer.version, "seed": number, **more}
        return await self._twice(viewer, script, expected, f"run {number}", RUN, given)

    async def boost(self) -> Submit:
        """A real LightGBM training, which leaves checkpoints where they are wanted often."""
        viewer = self.random.choice(self.viewers)
        pipeline = await viewer.pipeline("boosting", BOOSTING)
        return await self._run(viewer, "boost", "completed", pipeline, {"modelName": f"{viewer.name}'s boosting"})

    async def ingest(self, megabytes: float = 0.0) -> Submit:
        """A real table of its own."""
        return await self.complete(await self.upload(megabytes))

    async def upload(self, megabytes: float = 0.0) -> tuple[Viewer, int, str]:
        """A file, sent and not yet completed: whose, its number, and the upload's id."""
        viewer = self.random.choice(self.viewers)
        number = next(self._count)
        line = f"{number},0,a\n"
        content = (CSV + line * (1 + int(megabytes * 1e6 / len(line)))).encode()
        # Each time a name of its own: perhaps it was made, and only the answer was lost.
        dataset = await self._patiently(lambda client: client.create_dataset(f"table {number}, {next(self._count)}"), viewer)
        extra = {"sha256": hashlib.sha256(content).hexdigest(), "idempotencyKey": f"upload {number}"}

        async def sent(client: Client) -> str:
            upload = (await client.request_upload(dataset, f"{number}.csv", content, **extra))["upload"]
            (await client.put(upload, content)).raise_for_status()
            return upload["id"]

        return viewer, number, await self._patiently(sent, viewer)

    async def complete(self, uploaded: tuple[Viewer, int, str]) -> Submit:
        """Its ingest."""
        viewer, number, upload = uploaded
        return await self._twice(viewer, "ingest", "completed", f"ingest {number}", COMPLETE, {"uploadId": upload})

    async def _patiently(self, ask: Callable[[Client], Coroutine[Any, Any, str]], viewer: Viewer) -> str:
        for turn in range(300):
            try:
                return await ask(viewer.client(turn))
            except (*WAITING, GraphQLErrors, KeyError, ValueError):
                await asyncio.sleep(0.2)
        raise AssertionError("nobody answered for a minute")

    async def again(self, job: UUID) -> Submit:
        """`retryJob`, twice."""
        old = next(submit for submit in self.submits if submit.job == job)
        viewer = self.viewer(old.owner)
        key = f"retry {next(self._count)}"
        return await self._twice(viewer, old.script, old.expected, key, RETRY, {"id": f"job_{job.hex}"})

    async def _twice(self, viewer: Viewer, script: str, expected: str | None, key: str, mutation: str, given: dict[str, Any]) -> Submit:
        submit = Submit(viewer.name, key, script, expected)

        async def asked(first: int) -> None:
            answer = await viewer.insist(mutation, first=first, input={**given, "idempotencyKey": key})
            assert "job" in answer, answer
            submit.answers.append(decode("job", answer["job"]["id"]))

        if self.random.random() < TOGETHER:
            await asyncio.gather(asked(0), asked(1))
        else:
            await asked(0)
            await asked(self.random.randrange(2))
        self.submits.append(submit)
        return submit

    def note(self, viewer: Viewer, key: str, script: str, answers: list[str]) -> Submit:
        """Remember a submit that was made by other means: what it was answered, each time."""
        submit = Submit(viewer.name, key, script, "completed", [decode("job", answer) for answer in answers])
        self.submits.append(submit)
        return submit

    async def cancel(self, job: UUID) -> bool:
        """Whether it was accepted: the job had not ended before."""
        viewer = self.viewer(next(submit for submit in self.submits if submit.job == job).owner)
        answer = await viewer.insist(CANCEL, input={"id": f"job_{job.hex}"})
        if accepted := answer["__typename"] == "CancelJobPayload":
            self.cancels.add(job)
        return accepted

    def viewer(self, name: str) -> Viewer:
        return next(viewer for viewer in self.viewers if viewer.name == name)

    # Watching

    def watch(self, submit: Submit, churn: float = 0.0) -> Watch:
        """Follow a job to its end; after each event, with the probability `churn`, hang up and come back."""
        watch = Watch(submit.owner, submit.job)
        self.watches.append(watch)
        task = asyncio.create_task(self._follow(watch, churn), name=f"watch {submit.job}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return watch

    async def _follow(self, watch: Watch, churn: float) -> None:
        viewer, cursor = self.viewer(watch.owner), None
        while True:
            watch.connections += 1
            try:
                async for answer in viewer.client(self.random.randrange(100)).subscribe(EVENTS, id=f"job_{watch.job.hex}", after=cursor):
                    event = answer["jobEvents"]
                    watch.saw.append(event["sequence"])
                    cursor = event["cursor"]
                    if churn and self.random.random() < churn:
                        break
                else:
                    watch.done = True
                    return
            except GraphQLErrors as error:
                if not {"UNAVAILABLE", "TIMEOUT"} & set(error.codes):
                    raise
            except WAITING:
                pass
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    async def watched(self, within: float = 30.0) -> None:
        """Return when every subscriber has seen the end of its job."""

        async def all_done() -> bool:
            return all(watch.done for watch in self.watches)

        try:
            await until(all_done, within)
        except AssertionError:
            return  # the invariant tells who did not

    # What became of it

    async def ended(self, *submits: Submit, within: float = 60.0) -> dict[UUID, str]:
        """How the jobs ended, once all have; all that were ever submitted when none are named."""
        wanted = [submit.job for submit in submits or self.submits]

        async def all_ended() -> dict[UUID, str]:
            rows = await self.ground.rows("SELECT id, status, completed_at FROM jobs WHERE id = ANY($1)", wanted)
            return {row["id"]: row["status"] for row in rows} if all(row["completed_at"] for row in rows) else {}

        return await until(all_ended, within, f"the end of {len(wanted)} jobs")

    async def job(self, submit: Submit) -> Any:
        return (await self.ground.rows("SELECT * FROM jobs WHERE id = $1", submit.job))[0]

    async def reach(self, submit: Submit, *statuses: str, within: float = 20.0) -> Any:
        async def there() -> Any:
            row = await self.job(submit)
            return row if row["status"] in statuses else None

        return await until(there, within, f"{submit.script} becoming {statuses}")
