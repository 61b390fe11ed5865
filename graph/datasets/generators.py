"""The generators of synthetic data."""

from typing import Self

import strawberry

from db.services.generators import Generator
from graph.core.scalars import JSON
from graph.datasets.enums import Modality


@strawberry.type(description="A generator of synthetic data.")
class DatasetGenerator:
    key: str = strawberry.field(description="What `generateDataset` takes.")
    title: str = strawberry.field(description="Its name for people.")
    description: str = strawberry.field(description="What it generates, and the columns that the data has.")
    modality: Modality = strawberry.field(description="The kind of data that it generates.")
    parameter_schema: JSON = strawberry.field(description="A JSON Schema of its parameters, with a default for each of them.")

    @classmethod
    def of(cls, generator: Generator) -> Self:
        return cls(
            key=generator.key,
            title=generator.title,
            description=generator.description,
            modality=generator.modality,
            parameter_schema=generator.parameter_schema,
        )
