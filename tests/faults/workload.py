"""The workload: viewers that submit everything twice, cancel, retry and watch jobs, and record the responses."""

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
from db.tables.billing import TransactionType
from graph.core.ids import decode
from tests.client import Client, GraphQLErrors
from tests.faults.bodies import SCRIPT_PREFIX
from tests.faults.cluster import Cluster, eventually
from tests.faults.viewers import RETRYABLE_ERRORS, Submission, Subscriber, Viewer

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
CREATE_STUDY = (
    "mutation($input: CreateStudyInput!) { createStudy(input: $input) { __typename ... on CreateStudyPayload { study { id } }"
    " ... on Problem { code message } } }"
)
RETRY = (
    "mutation($input: RetryJobInput!) { retryJob(input: $input) { __typename ... on RetryJobPayload { job { id } }"
    " ... on Problem { code message } } }"
)
EVENTS = "subscription($id: ID!, $after: String) { jobEvents(id: $id, after: $after) { cursor sequence status } }"
INITIAL_CREDITS = 10**6  # enough that no job is refused; only holds and costs are checked
NAMES = ("ada", "bob", "cleo", "dora", "emil", "fay")
MIXED_SCRIPTS = ("nap 0.1", "linger 0.6 0.1", "nap 0.3", "nap 0.2")  # running while a fault strikes
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
SPACE = [
    {"node": "train", "name": "n_estimators", "type": "INT", "low": 2, "high": 20},
    {"node": "train", "name": "max_depth", "type": "CATEGORICAL", "choices": [2, 4, 8]},
]
HALVED_SPACE = [
    {"node": "train", "name": "learning_rate", "type": "DOUBLE", "low": 0.001, "high": 0.5, "log": True},
    {"node": "train", "name": "num_leaves", "type": "INT", "low": 2, "high": 9},
]
HALVED = {"minSteps": 2, "maxSteps": 8, "reductionFactor": 2}
NETWORK = [*BOOSTING[:2], ("train", "train_mlp", {"target": "label", "max_iter": 3})]
ARCHITECTURES = [
    {"node": "train", "name": "layers", "type": "INT", "low": 1, "high": 3},
    {"node": "train", "name": "width", "type": "INT", "low": 2, "high": 4},
]
CONCURRENT_SHARE = 0.5  # share of submits whose two calls are concurrent, at two APIs if there are two


class Workload:
    """All viewers and their records."""

    def __init__(self, cluster: Cluster, rng: random.Random) -> None:
        self.cluster = cluster
        self.random = rng
        self.viewers: list[Viewer] = []
        self.submissions: list[Submission] = []
        self.accepted_cancels: set[UUID] = set()
        self.subscribers: list[Subscriber] = []
        self._subscriber_tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    async def create_viewers(self, names: tuple[str, ...] = NAMES[:3]) -> None:
        """Create viewers with plenty of credits, a dataset with a READY version, and another for pipeline outputs."""
        direct_settings = StateSettings(database_url=self.cluster.direct_environment["TRELLIS_DATABASE_URL"])
        async with Database.open(direct_settings) as database, database.work(SYSTEM) as work:
            for name in names:
                token = await accounts.add_user(work, f"{name}@example.org", name, name.capitalize(), UserRole.MEMBER)
                owner_id = await work.scalar(select(User.id).where(User.username == name))
                await credits.grant(work, credits.Grant(owner_id, TransactionType.PURCHASE, INITIAL_CREDITS))
                self.viewers.append(Viewer(name, token, self.cluster))
        await self.cluster.rows("UPDATE users SET tier = 'enterprise'")
        # As a team has one: every job with a price counts in it.
        await self.cluster.rows(
            f"INSERT INTO credit_budgets (owner_id, max_credits) SELECT id, {INITIAL_CREDITS} FROM users WHERE credit_balance > 0 RETURNING id"
        )
        await asyncio.gather(*map(self._create_datasets, self.viewers))

    async def _create_datasets(self, viewer: Viewer) -> None:
        client = viewer.client()
        viewer.version = await client.ingest(f"{viewer.name}'s table", CSV)
        viewer.output = await client.create_dataset(f"{viewer.name}'s results")

    async def create_pipelines(self, scripts: list[str]) -> None:
        """Create every pipeline before the faults: a duplicate is refused, so creation cannot be retried."""
        pipelines = [("scaling", PROCESSING), ("forest", TRAINING), ("boosting", BOOSTING)]
        pipelines += [(SCRIPT_PREFIX + script, PROCESSING) for script in scripts]
        await asyncio.gather(*(viewer.pipeline(name, steps) for viewer in self.viewers for name, steps in pipelines))

    async def close(self) -> None:
        for task in self._subscriber_tasks:
            task.cancel()
        await asyncio.gather(*self._subscriber_tasks, return_exceptions=True)
        for viewer in self.viewers:
            await viewer.close()

    # Submitting

    async def submit_script(self, script: str, expected: str | None = "completed", *, priority: int = 5) -> Submission:
        """Submit a script such as "nap 0.2", twice."""
        viewer = self.random.choice(self.viewers)
        pipeline = await viewer.pipeline(SCRIPT_PREFIX + script, PROCESSING)
        return await self._submit_run(viewer, script, expected, pipeline, {"outputDatasetId": viewer.output, "priority": priority})

    async def submit_process(self) -> Submission:
        """Submit a real pipeline that scales two columns."""
        viewer = self.random.choice(self.viewers)
        pipeline = await viewer.pipeline("scaling", PROCESSING)
        return await self._submit_run(viewer, "process", "completed", pipeline, {"outputDatasetId": viewer.output})

    async def submit_training(self) -> Submission:
        """Submit a real training of a forest of five trees."""
        viewer = self.random.choice(self.viewers)
        pipeline = await viewer.pipeline("forest", TRAINING)
        return await self._submit_run(viewer, "train", "completed", pipeline, {"modelName": f"{viewer.name}'s forest"})

    async def submit_scripts(self, *scripts: str) -> list[Submission]:
        """Submit several scripts concurrently."""
        return await asyncio.gather(*map(self.submit_script, scripts))

    @asynccontextmanager
    async def under_load(self, *scripts: str, interval: float = 0.15) -> AsyncGenerator[list[Submission]]:
        """Submit jobs, and watch some of them, during the block, so that faults hit running jobs."""
        submissions = [await self.submit_script(scripts[0])]
        await self.wait_for_status(submissions[0], "running", "completed")
        is_over = asyncio.Event()

        async def keep_submitting() -> None:
            for turn in itertools.count(1):
                submissions.append(await self.submit_script(scripts[turn % len(scripts)]))
                if turn % 3 == 0:
                    self.subscribe(submissions[-1], churn=0.2)
                with suppress(TimeoutError):
                    await asyncio.wait_for(is_over.wait(), interval)
                if is_over.is_set():
                    return

        submitting = asyncio.create_task(keep_submitting())
        try:
            yield submissions
        finally:
            is_over.set()
            await submitting

    async def assert_every_slot_runs(self, workers: int) -> None:
        """Raise unless as many jobs run at once as `workers` workers have slots, i.e. no slot has leaked."""
        slots = workers * self.cluster.slots
        naps = [await self.submit_script("nap 600") for _ in range(slots)]

        async def all_run() -> bool:
            query = "SELECT 1 FROM jobs WHERE id = ANY($1) AND status = 'running'"
            return len(await self.cluster.rows(query, [nap.job for nap in naps])) == slots

        try:
            await eventually(all_run, 20.0, f"{slots} jobs running at once")
        finally:
            await asyncio.gather(*(self.cancel(nap.job) for nap in naps))
        await self.wait_for_end(*naps)

    async def _submit_run(
        self, viewer: Viewer, script: str, expected: str | None, pipeline: str, extra_input: dict[str, Any]
    ) -> Submission:
        number = next(self._numbers)
        run_input = {"pipelineId": pipeline, "datasetVersionId": viewer.version, "seed": number, **extra_input}
        return await self.submit_twice(viewer, script, expected, f"run {number}", RUN, run_input)

    async def submit_boosting(self) -> Submission:
        """Submit a real LightGBM training, which writes checkpoints if the interval is short."""
        viewer = self.random.choice(self.viewers)
        pipeline = await viewer.pipeline("boosting", BOOSTING)
        return await self._submit_run(viewer, "boost", "completed", pipeline, {"modelName": f"{viewer.name}'s boosting"})

    async def create_study(self, viewer: Viewer, trials: int, method: str = "RANDOM", **fields: Any) -> UUID:
        """Create a reproducible study of real trainings, of a forest or by HYPERBAND of LightGBM, or as `fields` say, twice."""
        number, is_halved = next(self._numbers), method == "HYPERBAND"
        pipeline = ("boosting", BOOSTING) if is_halved else ("forest", TRAINING)
        study: dict[str, Any] = {
            "name": f"search {number}",
            "method": method,
            "pipelineId": await viewer.pipeline(*pipeline),
            "datasetVersionId": viewer.version,
            "objective": {"metric": "validation_loss" if is_halved else "accuracy"},
            "space": HALVED_SPACE if is_halved else SPACE,
            "seed": 7,
            "reproducible": True,
            "budget": {"maxTrials": trials, "maxParallel": 2, "maxFailed": trials, **(HALVED if is_halved else {})},
            "idempotencyKey": f"search {number}",
            **fields,
        }
        created = [await viewer.execute_with_retries(CREATE_STUDY, first=turn, input=study) for turn in range(2)]
        assert created[0]["study"] == created[1]["study"], created
        return decode("study", created[0]["study"]["id"])

    async def create_architecture_study(self, viewer: Viewer, trials: int) -> UUID:
        """Create a study of architectures of a network, of which there are no more than twice as many as trials."""
        pipeline = await viewer.pipeline("network", NETWORK)
        options: dict[str, Any] = {"kind": "NAS", "pipelineId": pipeline, "space": ARCHITECTURES, "reproducible": False}
        return await self.create_study(viewer, trials, **options)

    async def submit_ingest(self, megabytes: float = 0.0) -> Submission:
        """Upload a real table and submit its ingest."""
        return await self.complete_upload(await self.upload(megabytes))

    async def upload(self, megabytes: float = 0.0) -> tuple[Viewer, int, str]:
        """Upload a file without completing it. Return the viewer, its number and the upload's id."""
        viewer = self.random.choice(self.viewers)
        number = next(self._numbers)
        line = f"{number},0,a\n"
        content = (CSV + line * (1 + int(megabytes * 1e6 / len(line)))).encode()
        # A new name for each retry: the dataset may have been created and only the response lost.
        dataset = await self._retry_until_answered(lambda client: client.create_dataset(f"table {number}, {next(self._numbers)}"), viewer)
        upload_input = {"sha256": hashlib.sha256(content).hexdigest(), "idempotencyKey": f"upload {number}"}

        async def send(client: Client) -> str:
            upload = (await client.request_upload(dataset, f"{number}.csv", content, **upload_input))["upload"]
            (await client.put(upload, content)).raise_for_status()
            return upload["id"]

        return viewer, number, await self._retry_until_answered(send, viewer)

    async def complete_upload(self, uploaded: tuple[Viewer, int, str]) -> Submission:
        """Complete the upload, which submits its ingest."""
        viewer, number, upload = uploaded
        return await self.submit_twice(viewer, "ingest", "completed", f"ingest {number}", COMPLETE, {"uploadId": upload})

    async def _retry_until_answered(self, call: Callable[[Client], Coroutine[Any, Any, str]], viewer: Viewer) -> str:
        for turn in range(300):
            try:
                return await call(viewer.client(turn))
            except (*RETRYABLE_ERRORS, GraphQLErrors, KeyError, ValueError):
                await asyncio.sleep(0.2)
        raise AssertionError("nobody answered for a minute")

    async def retry(self, job: UUID) -> Submission:
        """Call `retryJob` twice."""
        previous = next(submission for submission in self.submissions if submission.job == job)
        viewer = self.viewer(previous.owner)
        key = f"retry {next(self._numbers)}"
        return await self.submit_twice(viewer, previous.script, previous.expected, key, RETRY, {"id": f"job_{job.hex}"})

    async def submit_twice(
        self, viewer: Viewer, script: str, expected: str | None, key: str, mutation: str, mutation_input: dict[str, Any]
    ) -> Submission:
        """Submit with the idempotency key, twice."""
        submission = Submission(viewer.name, key, script, expected)

        async def submit_once(first: int) -> None:
            answer = await viewer.execute_with_retries(mutation, first=first, input={**mutation_input, "idempotencyKey": key})
            assert "job" in answer, answer
            submission.job_ids.append(decode("job", answer["job"]["id"]))

        if self.random.random() < CONCURRENT_SHARE:
            await asyncio.gather(submit_once(0), submit_once(1))
        else:
            await submit_once(0)
            await submit_once(self.random.randrange(2))
        self.submissions.append(submission)
        return submission

    def record_submission(self, viewer: Viewer, key: str, script: str, answers: list[str]) -> Submission:
        """Record a submit made elsewhere, with its responses."""
        submission = Submission(viewer.name, key, script, "completed", [decode("job", answer) for answer in answers])
        self.submissions.append(submission)
        return submission

    async def cancel(self, job: UUID) -> bool:
        """Cancel a job. Return whether it was accepted, i.e. the job had not ended."""
        viewer = self.viewer(next(submission for submission in self.submissions if submission.job == job).owner)
        answer = await viewer.execute_with_retries(CANCEL, input={"id": f"job_{job.hex}"})
        if accepted := answer["__typename"] == "CancelJobPayload":
            self.accepted_cancels.add(job)
        return accepted

    def viewer(self, name: str) -> Viewer:
        return next(viewer for viewer in self.viewers if viewer.name == name)

    # Watching

    def subscribe(self, submission: Submission, churn: float = 0.0) -> Subscriber:
        """Follow a job to its end; after each event, reconnect with the probability `churn`."""
        subscriber = Subscriber(submission.owner, submission.job)
        self.subscribers.append(subscriber)
        task = asyncio.create_task(self._follow(subscriber, churn), name=f"watch {submission.job}")
        self._subscriber_tasks.add(task)
        task.add_done_callback(self._subscriber_tasks.discard)
        return subscriber

    async def _follow(self, subscriber: Subscriber, churn: float) -> None:
        viewer, cursor = self.viewer(subscriber.owner), None
        while True:
            subscriber.connections += 1
            try:
                async for answer in viewer.client(self.random.randrange(100)).subscribe(
                    EVENTS, id=f"job_{subscriber.job.hex}", after=cursor
                ):
                    event = answer["jobEvents"]
                    subscriber.sequences.append(event["sequence"])
                    cursor = event["cursor"]
                    if churn and self.random.random() < churn:
                        break
                else:
                    subscriber.done = True
                    return
            except GraphQLErrors as error:
                if not {"UNAVAILABLE", "TIMEOUT"} & set(error.codes):
                    raise
            except RETRYABLE_ERRORS:
                pass
            await asyncio.sleep(self.random.uniform(0.05, 0.3))

    async def wait_for_subscribers(self, within: float = 60.0) -> None:
        """Wait until every subscriber has seen the end of its job."""

        async def all_done() -> bool:
            return all(subscriber.done for subscriber in self.subscribers)

        try:
            await eventually(all_done, within)
        except AssertionError:
            return  # an invariant reports those that did not

    # Outcomes

    async def wait_for_end(self, *submissions: Submission, within: float = 60.0) -> dict[UUID, str]:
        """Wait until the jobs, by default all submitted ones, have ended. Return how each ended."""
        job_ids = [submission.job for submission in submissions or self.submissions]

        async def all_ended() -> dict[UUID, str]:
            rows = await self.cluster.rows("SELECT id, status, completed_at FROM jobs WHERE id = ANY($1)", job_ids)
            return {row["id"]: row["status"] for row in rows} if all(row["completed_at"] for row in rows) else {}

        return await eventually(all_ended, within, f"the end of {len(job_ids)} jobs")

    async def job(self, submission: Submission) -> Any:
        return (await self.cluster.rows("SELECT * FROM jobs WHERE id = $1", submission.job))[0]

    async def wait_for_status(self, submission: Submission, *statuses: str, within: float = 60.0) -> Any:
        async def in_status() -> Any:
            row = await self.job(submission)
            return row if row["status"] in statuses else None

        return await eventually(in_status, within, f"{submission.script} becoming {statuses}")
