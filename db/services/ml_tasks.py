"""The tasks of machine learning that the steps can do, for people who look for a place to begin. Templates and their copies name theirs by its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from db.queries.goals import Goal, goal_of
from db.tables.datasets import Modality


class MlTaskType(StrEnum):
    """What is learned."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    CLUSTERING = "clustering"
    RECONSTRUCTION = "reconstruction"
    ANOMALY_DETECTION = "anomaly_detection"
    NER = "ner"
    OBJECT_DETECTION = "object_detection"
    SEGMENTATION = "segmentation"


@dataclass(frozen=True, slots=True)
class MlTask:
    """A task on one kind of data. `primary_metric` is the one to compare runs by."""

    key: str
    title: str
    description: str
    modality: Modality
    type: MlTaskType
    primary_metric: str

    @property
    def goal(self) -> Goal:
        goal = goal_of(self.primary_metric)
        assert goal is not None, f"{self.primary_metric} has no direction"
        return goal


_TASKS = (
    MlTask(
        "tabular_classification",
        "Classify rows",
        "Predicts the class of a row, such as whether a customer leaves, from its other columns.",
        Modality.TABULAR,
        MlTaskType.CLASSIFICATION,
        "f1_macro",
    ),
    MlTask(
        "tabular_regression",
        "Predict numbers",
        "Predicts a number of a row, such as a price, from its other columns.",
        Modality.TABULAR,
        MlTaskType.REGRESSION,
        "rmse",
    ),
    MlTask(
        "tabular_clustering",
        "Find groups of rows",
        "Puts rows that are alike into groups, without any that are known before.",
        Modality.TABULAR,
        MlTaskType.CLUSTERING,
        "silhouette",
    ),
    MlTask(
        "tabular_anomaly_detection",
        "Find unusual rows",
        "Learns what rows are like, without labels, and tells those that differ, such as a payment that is none. Of two models of ordinary rows, the one that"
        " finds fewer unusual ones among those that it has not seen is the better one, if both count the same share of what they learned from.",
        Modality.TABULAR,
        MlTaskType.ANOMALY_DETECTION,
        "outlier_share",
    ),
    MlTask(
        "signal_classification",
        "Classify signals",
        "Predicts the class of a signal, such as the fault of a bearing, from its statistics, its spectrum and its envelope.",
        Modality.SIGNAL,
        MlTaskType.CLASSIFICATION,
        "f1_macro",
    ),
    MlTask(
        "signal_reconstruction",
        "Reconstruct traces",
        "Fills in the traces of seismic gathers that are missing or dead. It makes a dataset and no model: the output of the node that writes it has the"
        " signal-to-noise ratio of the traces that were held back, in decibels.",
        Modality.SIGNAL,
        MlTaskType.RECONSTRUCTION,
        "snr",
    ),
    MlTask(
        "image_classification",
        "Classify images",
        "Predicts the class of an image, such as the digit that it shows, from its pixels or its edges.",
        Modality.IMAGE,
        MlTaskType.CLASSIFICATION,
        "f1_macro",
    ),
    MlTask(
        "audio_classification",
        "Classify recordings",
        "Predicts the class of a recording, such as who calls, from its loudness and its spectrum.",
        Modality.AUDIO,
        MlTaskType.CLASSIFICATION,
        "f1_macro",
    ),
    MlTask(
        "video_classification",
        "Classify videos",
        "Predicts the class of a video, such as what happens in it, from how it moves and what it shows.",
        Modality.VIDEO,
        MlTaskType.CLASSIFICATION,
        "f1_macro",
    ),
    MlTask(
        "multimodal_classification",
        "Classify rows with files",
        "Predicts the class of a row from its numbers and texts and from the images, recordings or videos that it names.",
        Modality.MULTIMODAL,
        MlTaskType.CLASSIFICATION,
        "f1_macro",
    ),
    MlTask(
        "text_classification",
        "Classify texts",
        "Predicts the class of a text, such as its topic, from the words in it.",
        Modality.TEXT,
        MlTaskType.CLASSIFICATION,
        "f1_macro",
    ),
)
TASKS: Mapping[str, MlTask] = {task.key: task for task in _TASKS}
