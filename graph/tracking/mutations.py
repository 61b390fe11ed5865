"""Mutations that create external runs, log to them and end them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import artifacts as artifact_queries
from db.queries import models as model_queries
from db.queries import runs as run_queries
from db.services.tracking import artifacts, inputs, parameters, points, registration, runs
from db.services.tracking.model_files import ModelInput
from db.settings import state_settings
from graph.core.context import Info
from graph.core.costs import COMPUTED, PRESIGN, costs
from graph.core.edges import one
from graph.core.ids import decode, decode_optional, encode
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InvalidInput, NotFound, QuotaExceeded, UploadMismatch, WrongState
from graph.datasets.files import Artifact, HttpHeader
from graph.experiments.types import Run
from graph.models.types import ModelVersion
from graph.tracking.inputs import (
    CompleteArtifactUploadInput,
    CreateRunInput,
    FinishRunInput,
    LogInputsInput,
    LogMetricsInput,
    LogParametersInput,
    RegisterModelVersionInput,
    RequestArtifactUploadInput,
)

UPLOAD_PREFIX = "artifactupload"
WRITE = 2  # points of a write that changes a row or two
BATCH = 5  # points of a batch, which is one statement whatever its size


@strawberry.type(description="The run was created, and runs.")
class CreateRunPayload:
    run_id: strawberry.Private[UUID]
    run: Run = one(
        run_queries.by_id, key="run_id", description="The new run, or the one that the first call with the idempotency key made."
    )


@strawberry.type(description="The points are kept.")
class LogMetricsPayload:
    run_id: strawberry.Private[UUID]
    added: int = strawberry.field(description="How many of the points were new; the others had been logged before.")
    run: Run = one(run_queries.by_id, key="run_id", description="The run. Leave it out where calls are many: it costs a read.")


@strawberry.type(description="The run has the hyperparameters.")
class LogParametersPayload:
    run_id: strawberry.Private[UUID]
    run: Run = one(run_queries.by_id, key="run_id", description="The run with all of its hyperparameters.")


@strawberry.type(description="The run has the inputs.")
class LogInputsPayload:
    run_id: strawberry.Private[UUID]
    run: Run = one(run_queries.by_id, key="run_id", description="The run with all of its inputs.")


@strawberry.type(
    description="Where to send the file: PUT exactly its bytes to `url` with these headers, then call `completeArtifactUpload`."
)
class RequestArtifactUploadPayload:
    upload_id: ID = strawberry.field(description="The id to pass to `completeArtifactUpload`.")
    url: str = strawberry.field(description="The presigned URL. It is authorized by itself; send no token with it.")
    headers: list[HttpHeader] = strawberry.field(
        metadata=costs(entries=1), description="The signed headers; the object store rejects a request without them."
    )
    expires_at: datetime = strawberry.field(
        description="When the URL expires. A file that has arrived by then is completed even if nobody says so; others are forgotten a day later."
    )


@strawberry.type(description="The file has arrived as it was announced.")
class CompleteArtifactUploadPayload:
    artifact_id: strawberry.Private[UUID | None]
    artifact: Artifact | None = one(
        artifact_queries.by_id,
        key="artifact_id",
        description="The file of the run. Null for one of more than 64 MiB, which is read in the background and is among `Run.artifacts` soon, and for one"
        " that was replaced since.",
    )


@strawberry.type(description="The run has the status.")
class FinishRunPayload:
    run_id: strawberry.Private[UUID]
    run: Run = one(run_queries.by_id, key="run_id", description="The run in its new state.")


CreateRunResult = Annotated[
    CreateRunPayload | NotFound | InvalidInput | Conflict,
    strawberry.union("CreateRunResult", description="The possible results of `createRun`."),
]
LogMetricsResult = Annotated[
    LogMetricsPayload | NotFound | InvalidInput | WrongState,
    strawberry.union("LogMetricsResult", description="The possible results of `logMetrics`."),
]
LogParametersResult = Annotated[
    LogParametersPayload | NotFound | InvalidInput | WrongState,
    strawberry.union("LogParametersResult", description="The possible results of `logParameters`."),
]
LogInputsResult = Annotated[
    LogInputsPayload | NotFound | InvalidInput | WrongState,
    strawberry.union("LogInputsResult", description="The possible results of `logInputs`."),
]
RequestArtifactUploadResult = Annotated[
    RequestArtifactUploadPayload | NotFound | InvalidInput | WrongState | QuotaExceeded,
    strawberry.union("RequestArtifactUploadResult", description="The possible results of `requestArtifactUpload`."),
]
CompleteArtifactUploadResult = Annotated[
    CompleteArtifactUploadPayload | NotFound | WrongState | UploadMismatch | QuotaExceeded,
    strawberry.union("CompleteArtifactUploadResult", description="The possible results of `completeArtifactUpload`."),
]
FinishRunResult = Annotated[
    FinishRunPayload | NotFound | InvalidInput | WrongState,
    strawberry.union("FinishRunResult", description="The possible results of `finishRun`."),
]


@strawberry.type(description="The version is registered.")
class RegisterModelVersionPayload:
    model_version_id: strawberry.Private[UUID]
    model_version: ModelVersion = one(model_queries.version_by_id, key="model_version_id", description="The new version, with its files.")


RegisterModelVersionResult = Annotated[
    RegisterModelVersionPayload | NotFound | InvalidInput | WrongState | Conflict | QuotaExceeded,
    strawberry.union("RegisterModelVersionResult", description="The possible results of `registerModelVersion`."),
]


@strawberry.type
class TrackingMutations:
    @mutation(
        scope=Scope.TRACK,
        description="Create a run for code that runs elsewhere. Log to it with `logMetrics` and `logParameters`, end it with `finishRun`, watch it with"
        " `runMetrics`. What is logged to it is its sign of life: without any for a day it is taken for abandoned.",
    )
    async def create_run(
        self, info: Info, input: Annotated[CreateRunInput, strawberry.argument(description="The run to create.")]
    ) -> CreateRunResult:
        new = runs.NewExternalRun(
            experiment_id=decode_optional("experiment", input.experiment_id),
            name=input.name,
            dataset_version_id=decode_optional("version", input.dataset_version_id),
            parent_run_id=decode_optional("run", input.parent_run_id),
            hyperparameters=input.hyperparameters,
            config=input.config,
            notes=input.notes,
            annotations=input.annotations,
            tags=input.tags or (),
            started_at=input.started_at,
            idempotency_key=input.idempotency_key,
        )
        async with info.context.work() as work:
            run_id = await runs.create(work, new)
        return CreateRunPayload(run_id=run_id)

    @mutation(
        scope=Scope.TRACK,
        metadata=costs(BATCH),
        description="Log points of metrics to an external run, all of them or none. A point that equals one of the run in key, step, time and value changes"
        " nothing, so a call may be repeated. Batches cost less than single points.",
    )
    async def log_metrics(
        self, info: Info, input: Annotated[LogMetricsInput, strawberry.argument(description="The points.")]
    ) -> LogMetricsResult:
        run_id = decode("run", input.run_id)
        logged = [points.LoggedPoint(point.key, point.step, point.value, point.recorded_at) for point in input.points]
        added = await points.log_alone(info.context.database, info.context.signed_in_viewer, run_id, logged)
        return LogMetricsPayload(run_id=run_id, added=added)

    @mutation(
        scope=Scope.TRACK,
        metadata=costs(WRITE),
        description="Log hyperparameters to an external run, all of them or none. Each is written once: the same value again is fine, another one is an"
        " issue at its name.",
    )
    async def log_parameters(
        self, info: Info, input: Annotated[LogParametersInput, strawberry.argument(description="The hyperparameters.")]
    ) -> LogParametersResult:
        async with info.context.work() as work:
            run_id = await parameters.log(work, decode("run", input.run_id), input.parameters)
        return LogParametersPayload(run_id=run_id)

    @mutation(
        scope=Scope.TRACK,
        metadata=costs(WRITE),
        description="Say what data an external run reads, all of it or none. What names a version of the run's owner leads from there to the run in the"
        " lineage; the first one is the run's `datasetVersion`, if it has none. The same again changes nothing.",
    )
    async def log_inputs(
        self, info: Info, input: Annotated[LogInputsInput, strawberry.argument(description="The data.")]
    ) -> LogInputsResult:
        named = [inputs.NamedInput(each.source, each.digest, each.name, each.context) for each in input.inputs]
        async with info.context.work() as work:
            run_id = await inputs.log(work, decode("run", input.run_id), named)
        return LogInputsPayload(run_id=run_id)

    @mutation(
        scope=Scope.TRACK,
        metadata=costs(PRESIGN),
        description="Request a presigned URL for a file of an external run, of whatever format. Files are kept and never loaded.",
    )
    async def request_artifact_upload(
        self, info: Info, input: Annotated[RequestArtifactUploadInput, strawberry.argument(description="The file to send.")]
    ) -> RequestArtifactUploadResult:
        new = artifacts.NewArtifact(decode("run", input.run_id), input.path, input.size_bytes, input.sha256, input.content_type)
        async with info.context.work() as work:
            row = await artifacts.request(work, new)
        expires = state_settings().upload_expires
        url, headers = await info.context.objects.presign_put(row.object_key, row.size_bytes, row.content_type, row.sha256, expires)
        return RequestArtifactUploadPayload(
            upload_id=ID(encode(UPLOAD_PREFIX, row.id)),
            url=url,
            headers=[HttpHeader(name=name, value=value) for name, value in headers.items()],
            expires_at=row.due_at,
        )

    @mutation(
        scope=Scope.TRACK,
        metadata=costs(COMPUTED),
        description="Say that a file of an external run has been sent. It is verified, and is then among `Run.artifacts`. Repeated, it returns the same.",
    )
    async def complete_artifact_upload(
        self, info: Info, input: Annotated[CompleteArtifactUploadInput, strawberry.argument(description="The file.")]
    ) -> CompleteArtifactUploadResult:
        context = info.context
        upload_id = decode(UPLOAD_PREFIX, input.upload_id)
        artifact_id = await artifacts.complete(context.database, context.objects, context.signed_in_viewer, upload_id)
        return CompleteArtifactUploadPayload(artifact_id=artifact_id)

    @mutation(
        scope=Scope.TRACK,
        metadata=costs(WRITE),
        description="Say how an external run ended, or that it goes on. The same again changes nothing. A run that has ended can still be logged to.",
    )
    async def finish_run(
        self, info: Info, input: Annotated[FinishRunInput, strawberry.argument(description="How it ended.")]
    ) -> FinishRunResult:
        async with info.context.work() as work:
            run_id = await runs.finish(work, decode("run", input.run_id), input.status, input.completed_at)
        return FinishRunPayload(run_id=run_id)

    @mutation(
        scope=Scope.TRACK,
        metadata=costs(COMPUTED),
        description="Register files of an external run as the next version of a model. They are kept even if the run's own are deleted, and are never loaded,"
        " unless the format is one that cannot run code and it is known what the model takes: then it can predict and be explained, in the sandbox of a job.",
    )
    async def register_model_version(
        self, info: Info, input: Annotated[RegisterModelVersionInput, strawberry.argument(description="The files and the model.")]
    ) -> RegisterModelVersionResult:
        context = info.context
        new = registration.NewVersion(
            run_id=decode("run", input.run_id),
            path=input.artifact_path,
            model_id=decode_optional("model", input.model_id),
            model_name=input.model_name,
            format=input.format,
            framework=input.framework,
            algorithm=input.algorithm,
            problem_type=input.problem_type,
            inputs=None if input.inputs is None else [ModelInput(each.name, each.is_text, each.is_nullable) for each in input.inputs],
            target=input.target,
            classes=input.classes,
            hyperparameters=input.hyperparameters,
            label=input.label,
            description=input.description,
            annotations=input.annotations,
        )
        version_id = await registration.register(context.database, context.objects, context.signed_in_viewer, new)
        return RegisterModelVersionPayload(model_version_id=version_id)
