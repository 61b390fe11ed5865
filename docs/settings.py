"""Writes the README's table of settings from the settings' classes: `python docs/settings.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from db.settings import StateSettings
from graph.settings import GraphSettings
from server.settings import ServerSettings
from workers.settings import WorkerSettings

README = Path(__file__).parents[1] / "README.md"


def table() -> str:
    """A row a setting: its name, its default, what it does."""
    rows = ["| setting | default | what it does |", "| --- | --- | --- |"]
    for settings_class in (StateSettings, GraphSettings, ServerSettings, WorkerSettings):
        prefix = settings_class.model_config.get("env_prefix", "")
        for name, field in settings_class.model_fields.items():
            default = field.get_default(call_default_factory=True)
            value: Any = default.get_secret_value() if isinstance(default, SecretStr) else default
            if value and isinstance(default, dict):
                value = json.dumps(default)
            rows.append(
                f"| `{(prefix + name).upper()}` | {f'`{value}`' if value not in ('', None, [], {}) else ''} | {field.description} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(
        re.sub(r"(<!-- settings -->\n).*?(<!-- /settings -->)", lambda m: f"{m[1]}{table()}\n{m[2]}", text, flags=re.DOTALL),
        encoding="utf-8",
    )
