"""Inputs of the mutations of external runs."""

from datetime import datetime

import strawberry
from strawberry import ID

from graph.core.annotations import CHANGED_ANNOTATIONS
from graph.core.scalars import JSON, BigInt, MetricValue
from graph.datasets.enums import ProblemType
from graph.experiments.enums import RunStatus
from graph.models.enums import ModelFormat

_RUN = "The run, which is external: made with `createRun`."


@strawberry.input(description="The run to create. It is RUNNING at once.")
class CreateRunInput:
    experiment_id: ID | None = strawberry.field(
        default=None,
        description='The experiment that it belongs to, and whose owner owns it: that of its parent if left out, else your "Default".',
    )
    name: str | None = strawberry.field(default=None, description="A name, at most 200 characters; several runs may have the same.")
    dataset_version_id: ID | None = strawberry.field(default=None, description="The version that it trains on, of the same owner.")
    parent_run_id: ID | None = strawberry.field(
        default=None, description="The run that it is a part of, such as a search of which it is a trial."
    )
    hyperparameters: JSON | None = strawberry.field(
        default=None, description="The parameters that it trains with, as an object of at most 256 KiB; `logParameters` adds more."
    )
    config: JSON | None = strawberry.field(
        default=None, description="Its other settings, as an object, such as the command and the commit."
    )
    notes: str | None = strawberry.field(default=None, description="Notes for your own use, such as Markdown; at most 100,000 characters.")
    annotations: JSON | None = strawberry.field(default=None, description=CHANGED_ANNOTATIONS)
    tags: list[str] | None = strawberry.field(
        default=None, description="Names of tags, at most 50. A name that none of the owner's tags has makes a new tag."
    )
    started_at: datetime | None = strawberry.field(
        default=None, description="When it began, if that was earlier: for runs that are brought in later."
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description="Repeating the call with the same key and input within 24 hours returns the same run; at most 200 characters.",
    )


@strawberry.input(description="The value of a metric at a step and a time.")
class MetricPointInput:
    key: str = strawberry.field(description="The metric's name, such as `validation.accuracy`; at most 250 characters.")
    step: int = strawberry.field(default=0, description="The epoch, batch or fold that it belongs to. A step may have several points.")
    value: MetricValue = strawberry.field(description="The value.")
    recorded_at: datetime | None = strawberry.field(
        default=None,
        description="When it was recorded; now if left out. Give it where a call may be repeated: an equal point changes nothing.",
    )


@strawberry.input(description="Points, and the run that they are logged to.")
class LogMetricsInput:
    run_id: ID = strawberry.field(description=_RUN)
    points: list[MetricPointInput] = strawberry.field(description="1 to 1,000 points of any metrics.")


@strawberry.input(description="Hyperparameters, and the run that they are logged to.")
class LogParametersInput:
    run_id: ID = strawberry.field(description=_RUN)
    parameters: JSON = strawberry.field(
        description="The hyperparameters by name, as an object; names have at most 250 characters, and all that a run has at most 256 KiB."
    )


@strawberry.input(description="Data that a run reads.")
class RunInputInput:
    source: str = strawberry.field(
        description="What it is: the id of a dataset version, `trellis://` and such an id, the SHA-256 of a file as it was uploaded or as it is"
        " processed, or any other name, such as a path; at most 1,000 characters."
    )
    digest: str | None = strawberry.field(
        default=None,
        description="A digest of the data as its reader computed it, kept as it is; at most 250 characters. A SHA-256 finds a version too.",
    )
    name: str | None = strawberry.field(default=None, description="A name to show, at most 500 characters.")
    context: str | None = strawberry.field(default=None, description="What it is read for, such as `training`; at most 500 characters.")


@strawberry.input(description="Data, and the run that reads it.")
class LogInputsInput:
    run_id: ID = strawberry.field(description=_RUN)
    inputs: list[RunInputInput] = strawberry.field(description="1 to 100 inputs; a run has at most 100.")


@strawberry.input(description="A file that is to be sent to a run.")
class RequestArtifactUploadInput:
    run_id: ID = strawberry.field(description=_RUN)
    path: str = strawberry.field(
        description="Its place among the files of the run, such as `plots/loss.png`: at most 1,000 characters, relative, without `..`, backslashes and"
        " control characters. A file at the same path is replaced once this one is complete."
    )
    size_bytes: BigInt = strawberry.field(description="Its exact size in bytes, at most 5 GiB.")
    sha256: str | None = strawberry.field(default=None, description="Its SHA-256 in hexadecimal, which is then verified.")
    content_type: str | None = strawberry.field(default=None, description="Its media type; `application/octet-stream` if left out.")


@strawberry.input(description="The file that has been sent.")
class CompleteArtifactUploadInput:
    upload_id: ID = strawberry.field(description="The `uploadId` of `requestArtifactUpload`.")


@strawberry.input(description="How a run ended.")
class FinishRunInput:
    run_id: ID = strawberry.field(description=_RUN)
    status: RunStatus = strawberry.field(
        default=RunStatus.COMPLETED, description="COMPLETED, FAILED or CANCELLED; RUNNING lets a run that has ended go on."
    )
    completed_at: datetime | None = strawberry.field(default=None, description="When it ended; now if left out.")


@strawberry.input(description="A column that a model takes.")
class ModelInputInput:
    name: str = strawberry.field(description="Its name in the rows to predict; at most 200 characters.")
    is_text: bool = strawberry.field(default=False, description="Whether it holds texts, not numbers.")
    is_nullable: bool = strawberry.field(default=False, description="Whether the model can do without a value.")


@strawberry.input(
    description="Files of an external run that are to be a version of a model. What is left out is found out from the files, above all from MLflow's file"
    " MLmodel, where there is one."
)
class RegisterModelVersionInput:
    run_id: ID = strawberry.field(description=_RUN)
    artifact_path: str = strawberry.field(
        description="The path of the model's file among those of the run, or of the folder with all that belong to it, at most 1,000."
    )
    model_name: str | None = strawberry.field(
        default=None, description="The model by its name; one that the run's owner does not have is created. Give this or `modelId`."
    )
    model_id: ID | None = strawberry.field(default=None, description="The model, of the run's owner.")
    format: ModelFormat | None = strawberry.field(
        default=None,
        description="The format of the model's file, which must be what its first bytes and its name say; OPAQUE to have it kept only.",
    )
    framework: str | None = strawberry.field(default=None, description="The library that trained it; `unknown` where nothing tells.")
    algorithm: str | None = strawberry.field(
        default=None, description="The algorithm, such as RandomForestClassifier; `unknown` where nothing tells."
    )
    problem_type: ProblemType | None = strawberry.field(default=None, description="Its task, which all versions of a model share.")
    inputs: list[ModelInputInput] | None = strawberry.field(
        default=None,
        description="The columns that it takes, in their order, without which it cannot predict. LightGBM's files name them, MLmodel may.",
    )
    target: str | None = strawberry.field(default=None, description="The column that it predicts.")
    classes: list[JSON] | None = strawberry.field(
        default=None, description="The classes in the order of the probabilities: of ONNX and LightGBM, whose files do not name them."
    )
    hyperparameters: JSON | None = strawberry.field(
        default=None, description="The parameters that it was trained with; those of the run if left out."
    )
    label: str | None = strawberry.field(default=None, description="A short name, at most 200 characters.")
    description: str | None = strawberry.field(default=None, description="Free text about it.")
    annotations: JSON | None = strawberry.field(default=None, description=CHANGED_ANNOTATIONS)
