"""Write the README's table of settings from the settings classes: `python docs/settings.py`."""

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
    """One row per setting: name, default, description, and the deprecated name where it was renamed."""
    rows = ["| setting | default | description |", "| --- | --- | --- |"]
    for settings_class in (StateSettings, GraphSettings, ServerSettings, WorkerSettings):
        for name, field in settings_class.model_fields.items():
            default = field.get_default(call_default_factory=True)
            value: Any = default.get_secret_value() if isinstance(default, SecretStr) else default
            if value and isinstance(default, dict):
                value = json.dumps(default)
            old_name = settings_class.deprecated_names.get(name)
            description = f"{field.description} Deprecated name: `{old_name}`." if old_name else field.description
            rows.append(
                f"| `{settings_class.env_name(name)}` | {f'`{value}`' if value not in ('', None, [], {}) else ''} | {description} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(
        re.sub(r"(<!-- settings -->\n).*?(<!-- /settings -->)", lambda m: f"{m[1]}{table()}\n{m[2]}", text, flags=re.DOTALL),
        encoding="utf-8",
    )
