"""Every setting is explained, in code and in the README."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from db.settings import StateSettings
from docs.settings import table
from graph.settings import GraphSettings
from server.settings import ServerSettings
from workers.settings import WorkerSettings

README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
SETTINGS_CLASSES: tuple[type[BaseSettings], ...] = (StateSettings, GraphSettings, ServerSettings, WorkerSettings)
SETTINGS = [
    (settings_class.model_config.get("env_prefix", "") + name, field)
    for settings_class in SETTINGS_CLASSES
    for name, field in settings_class.model_fields.items()
]


@pytest.mark.parametrize(("name", "field"), SETTINGS, ids=[name for name, _ in SETTINGS])
def test_a_setting_is_described_and_stands_in_the_readme(name: str, field: object) -> None:
    assert getattr(field, "description", None), f"{name} has no description"
    assert f"`{name.upper()}`" in README, f"{name.upper()} is not in the README"


def test_the_table_in_the_readme_is_what_the_code_says() -> None:
    assert table() in README, "run `make schema`"
