"""Definition of a step: key, parameter schema, place in the pipeline and function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from workers.ml.contents.content import ContentNode, ContentOperation
from workers.ml.node import ValueKind

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle
    from workers.ml.trainer import Trainer

StepType = Literal["DATASET", "TRANSFORM", "FILTER", "AUGMENT", "SPLIT", "TRAIN", "EVALUATE", "EXPLAIN", "EXPORT"]
# Every kind of data that is read becomes a table, so what works on tables works on all.
EVERY_MODALITY = ("TABULAR", "SIGNAL", "IMAGE", "AUDIO", "TEXT", "VIDEO", "MULTIMODAL")
# When a step runs. Rows are filtered and split ("source", "choose", "split") before anything is fitted on them ("fit", "train"), so that no
# transform sees a held-out row, wherever the split is placed. "rows" chooses among the training rows those that are learned from. "end" works on what
# the body made, after it.
Place = Literal["source", "choose", "split", "rows", "fit", "train", "after", "end"]


class Parameters(BaseModel):
    """Base of all step parameters; unknown parameters are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class PipelineNode(ContentNode):
    """One node of a definition with validated parameters."""

    step: Step


StepFunction = Callable[["Bundle", PipelineNode], dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """A registered step. `run` modifies the bundle in place, returns the node's output (a small JSON summary) and raises BadInput.

    `before_split` is what a step that is fitted does to columns before the rows are split.
    `check` is called before the training starts, once the rows are split: it raises BadInput if a step after the training could not run.
    `chooses` says what happens to the columns that the parameter `columns` names; `numbers` keeps those of numbers. `takes` are the kinds of values that the
    step works on by default, for a training step the only ones that it learns from; `gives` is the kind that it turns them into. `makes_columns`
    marks a step that replaces a column by others, whose names begin with its name and an underscore. `trusted_types` are the types, by full name, that it adds to a model
    file besides ours; restoring one must not run what the file says. `content` is what the step does with the contents of items. `extra` is
    that of the package which it needs, one that workers tell of.
    """

    key: str
    type: StepType
    title: str
    description: str
    parameters: type[Parameters]
    place: Place
    run: StepFunction
    modalities: tuple[str, ...] = EVERY_MODALITY
    trainer: Trainer | None = None
    requires_target: bool = False
    problem_types: tuple[str, ...] = field(default=())
    before_split: Callable[[Bundle, PipelineNode], None] | None = None
    check: Callable[[Bundle, PipelineNode], None] | None = None
    chooses: Literal["keep", "drop", "numbers"] | None = None
    takes: tuple[ValueKind, ...] = field(default=())
    gives: ValueKind | None = None
    makes_columns: bool = False
    trusted_types: tuple[str, ...] = ()
    content: ContentOperation | None = None
    extra: str | None = None

    @property
    def parameter_schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of the parameters. The `x-` keywords tell a validator of whole definitions what the step needs:

        `x-place`: source, choose, split, rows, fit, train, after or end (see `Place`); `x-inputs`: minimum number of incoming links; `x-requires-target`:
        it needs a target column, from its own `target` or the dataset's; `x-problem-types`: the problem types it supports; `x-chooses`,
        `x-takes`, `x-gives` and `x-makes-columns`: see the class; `x-content`: the role of its operation on the contents of items: files, change, divide,
        read, augment or write; `x-extra`: an extra of the package without which a worker cannot run it. Within the parameters: `x-column`: it names a column, or several;
        `x-split-column`: one whose values are the parts of the data;
        `x-new-column`: it names a column that the step makes; `x-column-prefix`: it is what the names of such columns begin with, before an
        underscore; `x-renames`: a list of {column, name}; `x-formula`: it is a formula (see
        `db.core.formulas`); `x-version`: the id of a dataset version that the job reads as well;
        `x-other-column`: it names columns of that; `x-export-options`: it has the options of an export; `x-gives-by-value`: the kind
        that the columns get, by its value; `x-needs-validation-rows`: it needs them with any value, or with the listed ones, and
        `x-gives-validation-rows`: it holds some out if above 0; `x-operators`: the object is a condition {column, operator, value}, with
        these operators for each kind of column; `x-message`: what to say of a value that the subschema does not accept;
        `x-steps`: the training has at most so many steps; `x-architecture`: the architecture of what is trained depends on it.
        """
        schema = self.parameters.model_json_schema()
        schema.pop("description", None)
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **schema,
            "title": self.title,
            "x-place": self.place,
            "x-inputs": 0 if self.place == "source" else 1,
            "x-requires-target": self.requires_target,
            "x-problem-types": list(self.problem_types),
            **({"x-chooses": self.chooses} if self.chooses else {}),
            **({"x-takes": list(self.takes)} if self.takes else {}),
            **({"x-gives": self.gives} if self.gives else {}),
            **({"x-makes-columns": True} if self.makes_columns else {}),
            **({"x-content": self.content.role} if self.content else {}),
            **({"x-extra": self.extra} if self.extra else {}),
        }


def no_part_in_the_body(_bundle: Any, node: PipelineNode) -> dict[str, Any]:
    """The `run` of a step at the "end": the worker runs its nodes once the body has ended, and the plan lists none among those that run here."""
    raise AssertionError(f"{node.key} has no part in the body")
