"""People at the API: they submit everything twice, cancel, do again, and watch; and they note what they were told."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import select
from websockets.exceptions import WebSocketException

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
CSV = "x,y,label\n" + "".join(f"{i},{i * 37 % 11},{'a' if i % 3 else 'b'}\n" for i in range(60))
PROCESSING = [("data", "dataset", {}), ("scale", "scale", {})]
TRAINING = [
    ("data", "dataset", {}),
    ("split", "split", {"test_fraction": 0.3}),
    ("train", "train_random_forest", {"target": "label", "n_estimators": 5}),
    ("score", "evaluate", {}),
]
REPEATED = {"UNAVAILABLE", "TIMEOUT", "INTERNAL_ERROR", "INTERNAL"}  # whether it was done is not known: asked again, with the same key
WAITING = (httpx.HTTPError, OSError, TimeoutError, WebSocketException)


@dataclass(slots=True)
class Submit:
    """What was asked and what was answered. `expected` is how the job must end if nobody cancels it; None where several ways are right."""

    owner: str
    key: str
    script: str
    expected: str | None
    answers: list[UUID] = field(default_factory=list[UUID])

    @property
    def job(self) -> UUID:
        return self.answers[0]


@dataclass(slots=True)
class Watch:
    """One subscriber of one job: what it saw, over all its connections."""

    owner: str
    job: UUID
    saw: list[int] = field(default_factory=list[int])
    connections: int = 0
    done: bool = False


class Viewer:
    """A named person with a client at every API; when one does not answer, another is asked."""

    def __init__(self, name: str, token: str, ground: Ground) -> None:
        self.name = name
        self.token = token
        self._ground = ground
        self._clients: dict[str, Client] = {}
        self.dataset = ""
        self.output = ""
        self.version = ""
        self.pipelines: dict[str, asyncio.Task[str]] = {}

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    def client(self, turn: int = 0) -> Client:
        urls = self._ground.urls
        url = urls[turn % len(urls)]
        if url not in self._clients:
            self._clients[url] = Client(url, self.token)
        return self._clients[url]

    async def insist(self, query: str, *, within: float = 90.0, **variables: Any) -> dict[str, Any]:
        """The answer of the only root field, asked for until somebody gives it."""
        answers: list[Any] = []
        turns = itertools.count()

        async def answered() -> bool:
            try:
                answers.append(await self.client(next(turns)).one(query, **variables))
            except GraphQLErrors as error:
                if not set(error.codes) <= REPEATED:
                    raise
            except (*WAITING, ValueError):
                pass
            if not answers:
                await asyncio.sleep(0.1)
            return bool(answers)

        await until(answered, within, f"an answer to {query[:60]}")
        return answers[0]

    async def pipeline(self, name: str, steps: list[tuple[str, str, dict[str, Any]]]) -> str:
        """Made once."""
        if name not in self.pipelines:
            self.pipelines[name] = asyncio.create_task(self._make(name, steps))
        return await self.pipelines[name]

    async def _make(self, name: str, steps: list[tuple[str, str, dict[str, Any]]]) -> str:
        return (await self.client().create_pipeline(name, *steps))["pipeline"]["id"]


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
        for viewer in self.viewers:
            for name, steps in [("scaling", PROCESSING), ("forest", TRAINING), *((SCRIPT + script, PROCESSING) for script in scripts)]:
                await viewer.pipeline(name, steps)

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

    async def _run(self, viewer: Viewer, script: str, expected: str | None, pipeline: str, more: dict[str, Any]) -> Submit:
        number = next(self._count)
        given = {"pipelineId": pipeline, "datasetVersionId": viewer.version, "seed": number, **more}
        return await self._twice(viewer, script, expected, f"run {number}", RUN, given)

    async def ingest(self) -> Submit:
        """A real table of its own."""
        viewer = self.random.choice(self.viewers)
        number = next(self._count)
        content = f"{CSV}{number},0,a\n".encode()
        # Each time a name of its own: perhaps it was made, and only the answer was lost.
        dataset = await self._patiently(lambda client: client.create_dataset(f"table {number}, {next(self._count)}"), viewer)
        extra = {"sha256": hashlib.sha256(content).hexdigest(), "idempotencyKey": f"upload {number}"}

        async def sent(client: Client) -> str:
            upload = (await client.request_upload(dataset, f"{number}.csv", content, **extra))["upload"]
            (await client.put(upload, content)).raise_for_status()
            return upload["id"]

        upload = await self._patiently(sent, viewer)
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
        for _ in range(2):
            answer = await viewer.insist(mutation, input={**given, "idempotencyKey": key})
            assert "job" in answer, answer
            submit.answers.append(decode("job", answer["job"]["id"]))
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
