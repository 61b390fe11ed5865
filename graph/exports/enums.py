"""The enums of exports, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from db.tables.exports import ExportFormat, ExportTarget
from graph.core.enums import describe

__all__ = ["ExportFormat", "ExportTarget"]

describe(
    ExportFormat,
    "The format of an export. The options of each are in the description of `CreateExportInput.options`.",
    CSV="Delimited text in UTF-8.",
    JSON="One JSON array of objects, a row each.",
    JSONL="JSON lines: a JSON object for each row.",
    PARQUET="Apache Parquet, with typed columns.",
    HUGGINGFACE="A folder that `datasets.load_dataset` of Hugging Face reads: Parquet files by split, or archives of images, recordings or videos, and a card."
    " A target of classes is a ClassLabel.",
    PYTORCH="Safetensors, a file for each split with a tensor for each column that is a number or is numbered, and a loader. Nothing is pickled. Of items, archives"
    " that `webdataset` reads, and their table.",
    TENSORFLOW="TFRecord files of `tf.train.Example` by split, and a loader.",
    ONNX="A model for any program with an ONNX runtime. It is verified on rows of the training data before it appears.",
)
describe(
    ExportTarget,
    "A list that `exportTable` writes. Those that are under something need `parentId`. Reading it takes the scope READ of an API key, or another where it says so.",
    DATASETS="`datasets`.",
    DATASET_VERSIONS="`versions` of the dataset that `parentId` names; it takes neither filter nor order.",
    DATASET_ITEMS="`items` of the dataset version that `parentId` names.",
    PIPELINES="`pipelines`.",
    JOBS="`jobs`.",
    EXPERIMENTS="`experiments`.",
    RUNS="`runs`. The columns `metrics.<name>` are the last values of metrics, `parameters.<name>` hyperparameters.",
    MODELS="`models`.",
    MODEL_VERSIONS="`versions` of the model that `parentId` names; it takes neither filter nor order.",
    STUDIES="`studies`.",
    TRIALS="`trials` of the study that `parentId` names. The columns `parameters.<node>.<name>` are its parameters.",
    USERS="`users`, without what concerns their sign-in. Scope ACCOUNT.",
    TAGS="`tags`.",
    EXPORTS="`exports`.",
    EXPLANATIONS="`explanations` of the model version that `parentId` names.",
    SCHEMA_PROPOSALS="`schemaProposals` of the dataset version that `parentId` names.",
    ALIAS_EVENTS="`aliasHistory` of the model that `parentId` names; it takes neither filter nor order.",
    ARTIFACTS="`artifacts` of the run that `parentId` names.",
    JOB_EVENTS="`events` of the job that `parentId` names, its log among them; it takes neither filter nor order.",
    NOTIFICATIONS="`notifications`: your own.",
    CREDIT_TRANSACTIONS="`creditTransactions`, the ledger. Scope BILLING.",
    AUDIT_EVENTS="`auditEvents`. The columns `before.<name>` and `after.<name>` are single values. Scope ACCOUNT.",
    LOGIN_EVENTS="`loginEvents` of the user that `parentId` names. Scope ACCOUNT.",
    API_REQUESTS="`requests` of the API key that `parentId` names. Scope ACCOUNT.",
    WEBHOOK_DELIVERIES="`deliveries` of the webhook that `parentId` names. Scope ACCOUNT.",
)
