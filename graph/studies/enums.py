"""The enums of studies, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from db.core.search_space import SearchParameterType
from db.tables.studies import StudyKind, StudyMethod, StudyReason, StudyStatus, TrialStatus
from graph.core.enums import describe

__all__ = ["SearchParameterType", "StudyKind", "StudyMethod", "StudyReason", "StudyStatus", "TrialStatus"]

describe(
    StudyKind,
    "What a study searches for.",
    HPO="The parameters of the steps of a pipeline.",
    NAS="The architecture of a neural network, beside other parameters: no two trials have the same, however their parameters say it.",
)
describe(
    StudyMethod,
    "How the parameters of a trial are chosen.",
    GRID="Each combination of the values, once. Ranges need a step, unless they are of whole numbers.",
    RANDOM="Each value by chance, independent of other trials. Of a logarithmic range, each order of magnitude is as likely.",
    BAYESIAN="Where earlier trials were good, as a tree-structured Parzen estimator judges them; the first 10 at random.",
    HYPERBAND="At random, as RANDOM. Trials that are not among the best at some steps of their training end there, so that more can be tried.",
    EVOLUTION="A good one of the 20 trials before it with one parameter changed; the first 20 at random.",
)
describe(
    StudyStatus,
    "The status of a study.",
    PENDING="None of its trials has begun.",
    RUNNING="It makes trials, or waits for the last ones.",
    PAUSED="It makes no trials until it is resumed; those that had been made go on. `reason` tells why.",
    COMPLETED="It has ended, and trials have completed. Final.",
    FAILED="It has ended without a completed trial, or because too many failed. Final.",
    CANCELLED="It was cancelled, and its trials have ended. Final.",
)
describe(
    StudyReason,
    "Why a study makes no further trials.",
    USER="Somebody paused or cancelled it.",
    TARGET="A trial reached the target.",
    TRIALS="All trials of its budget, or all points of its grid, were made.",
    FAILURES="More trials failed than its budget allows, or the dataset was deleted.",
    TIME="The seconds of its budget are over.",
    CREDITS="The credits of its budget are used up, or, of a PAUSED one, the account could not pay for the next trial.",
)
describe(
    TrialStatus,
    "The status of a trial.",
    PENDING="Its job waits, or has not drawn its parameters.",
    RUNNING="It has its parameters, and its job trains with them.",
    COMPLETED="It has a value.",
    PRUNED="It was ended early, since others were better at the same step.",
    FAILED="Its job failed, or the metric has no finite value.",
    CANCELLED="Its job was cancelled.",
)
describe(
    SearchParameterType,
    "The values among which a parameter is searched.",
    DOUBLE="Numbers from `low` to `high`, in steps if `step` is given.",
    INT="Whole numbers from `low` to `high`, in steps of `step` or 1.",
    CATEGORICAL="The `choices`, any JSON values.",
)
