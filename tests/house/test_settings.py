"""Every setting is documented, in code and in the README."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from db.core.base_settings import TrellisSettings
from db.settings import StateSettings
from docs.settings import table
from graph.settings import GraphSettings
from server.settings import ServerSettings
from workers.settings import WorkerSettings

README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
SETTINGS_CLASSES: tuple[type[TrellisSettings], ...] = (StateSettings, GraphSettings, ServerSettings, WorkerSettings)
SETTINGS = [
    (settings_class.env_name(name), field) for settings_class in SETTINGS_CLASSES for name, field in settings_class.model_fields.items()
]


@pytest.mark.parametrize(("name", "field"), SETTINGS, ids=[name for name, _ in SETTINGS])
def test_a_setting_is_described_and_stands_in_the_readme(name: str, field: object) -> None:
    assert getattr(field, "description", None), f"{name} has no description"
    assert f"`{name}`" in README, f"{name} is not in the README"


def test_the_table_in_the_readme_is_what_the_code_says() -> None:
    assert table() in README, "run `make schema`"


def test_a_renamed_setting_is_still_read_from_its_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_WORKER_PULSE", "0.7")
    monkeypatch.setenv("TRELLIS_RUNNING_PER_QUEUE", '{"video": 2}')
    assert WorkerSettings().heartbeat_interval == 0.7
    assert StateSettings().queue_concurrency_limits == {"video": 2}


def test_the_new_name_of_a_setting_wins_over_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_RUNNING_PER_QUEUE", '{"video": 2}')
    monkeypatch.setenv("TRELLIS_QUEUE_CONCURRENCY_LIMITS", '{"default": 3}')
    assert StateSettings().queue_concurrency_limits == {"default": 3}


def test_no_upload_may_be_larger_than_what_the_store_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    assert StateSettings().upload_max_bytes == 50 * 1024**3
    monkeypatch.setenv("TRELLIS_UPLOAD_MAX_BYTES", str(5 * 1024**4 + 1))
    with pytest.raises(ValidationError, match="less than or equal to 5497558138880"):
        StateSettings()


def test_a_process_logs_each_deprecated_and_each_unknown_setting() -> None:
    code = "from server.logs import configure_logs; configure_logs()"
    environment = {**os.environ, "TRELLIS_LOG_FORMAT": "json", "TRELLIS_LOG_LEVEL": "info", "TRELLIS_CHORE_FORGET_KEYS": "60"}
    environment |= {
        "TRELLIS_QUERY_MAX_DEPHT": "3",
        "TRELLIS_WHATEVER": "1",
        "TRELLIS_URL": "http://127.0.0.1:8000/graphql",
        "TRELLIS_TOKEN": "trk",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["level"] for line in lines} == {"warning"}
    (deprecated,) = [line for line in lines if line["event"] == "setting_deprecated"]
    assert (deprecated["setting"], deprecated["use_instead"]) == ("TRELLIS_CHORE_FORGET_KEYS", "TRELLIS_MAINTENANCE_FORGET_KEYS")
    unknown = {line["setting"]: line.get("similar") for line in lines if line["event"] == "setting_unknown"}
    assert (unknown["TRELLIS_QUERY_MAX_DEPHT"], unknown["TRELLIS_WHATEVER"]) == ("TRELLIS_QUERY_MAX_DEPTH", None)
    assert not {"TRELLIS_LOG_FORMAT", "TRELLIS_URL", "TRELLIS_TOKEN"} & unknown.keys()


@pytest.mark.parametrize("settings_class", SETTINGS_CLASSES)
def test_a_deprecated_name_belongs_to_a_setting_and_to_no_other(settings_class: type[TrellisSettings]) -> None:
    assert set(settings_class.deprecated_names) <= set(settings_class.model_fields)
    current_names = {each.env_name(name) for each in SETTINGS_CLASSES for name in each.model_fields}
    assert not current_names & set(settings_class.deprecated_names.values())
