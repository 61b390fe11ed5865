"""Mutations that make versions without an upload: rows that are sent, files that are fetched, and generated data."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import jobs, versions
from db.services import generating, importing, ingested_rows
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.ids import decode, decode_optional, owner_key
from graph.core.permissions import mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NameTaken, NotFound, QuotaExceeded
from graph.core.scalars import JSON, BigInt
from graph.datasets.inputs import ReadingOptionsInput
from graph.datasets.types import DatasetVersion

if TYPE_CHECKING:
    from graph.jobs.types import Job


@strawberry.input(
    description="Rows that become the next version of a dataset. The version has exactly these rows, not those of versions before."
)
class IngestRowsInput:
    dataset_id: ID = strawberry.field(description="The dataset that gets the version.")
    rows: list[JSON] = strawberry.field(
        description="The rows, 1 to 10,000, each an object of cells by column; a column that a row lacks is missing there. Types are inferred as from a"
        " file of JSON lines. A request has at most 1 MiB: upload a file for more."
    )
    label: str | None = strawberry.field(default=None, description="A name for the version, such as `sensors of Monday`.")
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.input(description="A file to fetch as the next version of a dataset.")
class ImportDatasetInput:
    dataset_id: ID = strawberry.field(description="The dataset that gets the version.")
    url: str = strawberry.field(
        description="Where the file is: an `https` address that needs no sign-in, or `s3://bucket/key` in a location that the operator allows. It is shown"
        " to everybody who sees the job."
    )
    sha256: str | None = strawberry.field(
        default=None, description="Its SHA-256 in hexadecimal, if known; a file with another one is not used."
    )
    label: str | None = strawberry.field(default=None, description="A name for the version.")
    reading: ReadingOptionsInput | None = strawberry.field(
        default=None, description="How to read the file, where detection would fail; a retry keeps it."
    )
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.input(description="Data to generate, into a dataset that exists or into a new one.")
class GenerateDatasetInput:
    generator: str = strawberry.field(description="The key of a generator; `datasetGenerators` lists them.")
    dataset_id: ID | None = strawberry.field(default=None, description="The dataset that gets the version; or give a `name`.")
    name: str | None = strawberry.field(
        default=None, description="The name of a new dataset, unique among the owner's; or give a `datasetId`."
    )
    owner_id: ID | None = strawberry.field(
        default=None, description="Who is to own a new dataset: a team in which you are MEMBER or ADMIN; you if left out."
    )
    parameters: JSON | None = strawberry.field(
        default=None, description="An object of parameters, as the generator's `parameterSchema` describes them; each has a default."
    )
    seed: BigInt | None = strawberry.field(
        default=None,
        description="0 to 4,294,967,295: the same generator, parameters and seed give the same data. Drawn at random if left out; the job's"
        " `parameters` has it.",
    )
    label: str | None = strawberry.field(default=None, description="A name for the version.")
    idempotency_key: str | None = strawberry.field(default=None, description=IDEMPOTENCY_KEY)


@strawberry.type(description="The rows are stored, and a job was submitted to read them.")
class IngestRowsPayload:
    version_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    version: DatasetVersion = one(versions.by_id, key="version_id", description="The version that the rows become.")
    job: Annotated["Job", strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The INGEST job; follow it with `jobEvents`."
    )


@strawberry.type(description="A job was submitted to fetch the file.")
class ImportDatasetPayload:
    version_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    version: DatasetVersion = one(
        versions.by_id, key="version_id", description="The version that gets the data, PENDING until the job runs."
    )
    job: Annotated["Job", strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The IMPORT job; follow it with `jobEvents`."
    )


@strawberry.type(description="A job was submitted to generate the data.")
class GenerateDatasetPayload:
    version_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    version: DatasetVersion = one(
        versions.by_id, key="version_id", description="The version that gets the data, PENDING until the job runs."
    )
    job: Annotated["Job", strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The GENERATE job; follow it with `jobEvents`."
    )


IngestRowsResult = Annotated[
    IngestRowsPayload | NotFound | InvalidInput | Conflict | QuotaExceeded,
    strawberry.union("IngestRowsResult", description="The possible results of `ingestRows`."),
]
ImportDatasetResult = Annotated[
    ImportDatasetPayload | NotFound | InvalidInput | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("ImportDatasetResult", description="The possible results of `importDataset`."),
]
GenerateDatasetResult = Annotated[
    GenerateDatasetPayload | NotFound | InvalidInput | NameTaken | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("GenerateDatasetResult", description="The possible results of `generateDataset`."),
]


@strawberry.type
class Sources:
    @mutation(metadata=costs(JOB), description="Make the next version of a dataset of rows in the request, without a file.")
    async def ingest_rows(
        self, info: Info, input: Annotated[IngestRowsInput, strawberry.argument(description="The rows.")]
    ) -> IngestRowsResult:
        context = info.context
        new = ingested_rows.NewRows(decode("dataset", input.dataset_id), input.rows, input.label, input.idempotency_key)
        version_id, job_id = await ingested_rows.ingest(context.database, context.objects, context.signed_in_viewer, new)
        return IngestRowsPayload(version_id=version_id, job_id=job_id)

    @mutation(
        metadata=costs(JOB),
        description="Make the next version of a dataset of a file elsewhere. Only servers of the public Internet are asked, up to 5 redirects are followed,"
        " and what the file may have at most is as for uploads.",
    )
    async def import_dataset(
        self, info: Info, input: Annotated[ImportDatasetInput, strawberry.argument(description="The file to fetch.")]
    ) -> ImportDatasetResult:
        new = importing.NewImport(
            dataset_id=decode("dataset", input.dataset_id),
            url=input.url,
            sha256=input.sha256,
            label=input.label,
            reading=None if input.reading is None else input.reading.options(),
            idempotency_key=input.idempotency_key,
        )
        async with info.context.work() as work:
            version_id, job_id = await importing.submit(work, new)
        return ImportDatasetPayload(version_id=version_id, job_id=job_id)

    @mutation(metadata=costs(JOB), description="Make a version of synthetic data, for trying things out and for tests of methods.")
    async def generate_dataset(
        self, info: Info, input: Annotated[GenerateDatasetInput, strawberry.argument(description="What to generate.")]
    ) -> GenerateDatasetResult:
        new = generating.NewGeneration(
            generator=input.generator,
            dataset_id=decode_optional("dataset", input.dataset_id),
            name=input.name,
            owner_id=owner_key(input.owner_id),
            parameters=input.parameters,
            seed=input.seed,
            label=input.label,
            idempotency_key=input.idempotency_key,
        )
        async with info.context.work() as work:
            version_id, job_id = await generating.generate(work, new)
        return GenerateDatasetPayload(version_id=version_id, job_id=job_id)
