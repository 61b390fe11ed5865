"""The base of all settings classes: a renamed setting is still read from its old environment variable, until that name is removed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsError


class TrellisSettings(BaseSettings):
    """Settings from environment variables; `deprecated_names` maps a field to the old name of its variable. The new name wins."""

    deprecated_names: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def env_name(cls, field_name: str) -> str:
        """The environment variable of a field."""
        return (str(cls.model_config.get("env_prefix", "")) + field_name).upper()

    @classmethod
    def source_name(cls, field_name: str) -> str:
        """The environment variable that the field's value comes from: the old name where only that one is set."""
        old_name = cls.deprecated_names.get(field_name)
        new_name = cls.env_name(field_name)
        return old_name if old_name is not None and old_name in os.environ and new_name not in os.environ else new_name

    @classmethod
    def problems(cls) -> list[str]:
        """What is wrong with the environment's values, one line each, with the name of the variable; empty if nothing is."""
        try:
            cls()
        except ValidationError as error:
            return [
                f"{cls.source_name(str(detail['loc'][0]))}: {detail['msg'].removeprefix('Value error, ')}" + _place(detail["loc"][1:])
                for detail in error.errors(include_url=False, include_input=False)
            ]
        except SettingsError as error:  # a value that is to be JSON; the library names only the field, in its message
            names = [name for name in cls.model_fields if f'"{name}"' in str(error)]
            return [f"{cls.source_name(name)}: This is not JSON. {cls.model_fields[name].description}" for name in names] or [str(error)]
        return []

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _DeprecatedNamesSource(settings_cls), dotenv_settings, file_secret_settings


def _place(location: tuple[int | str, ...]) -> str:
    return f" (at {'.'.join(map(str, location))})" if location else ""


class _DeprecatedNamesSource(EnvSettingsSource):
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - signature of the base class
        settings_class = self.settings_cls
        assert issubclass(settings_class, TrellisSettings)
        value = None
        # pydantic-settings merges the dictionaries of several sources, so the old one is not read beside a new one.
        if settings_class.env_name(field_name).lower() not in self.env_vars:
            value = self.env_vars.get(settings_class.deprecated_names.get(field_name, "").lower())
        return value, field_name, False


_OF_CLIENTS: Final = frozenset({"TRELLIS_URL", "TRELLIS_TOKEN"})
"""What the programs of docs/clients.md read: whoever tries them has set these where the servers are started, too."""


def unknown_settings(*settings_classes: type[TrellisSettings]) -> Iterator[tuple[str, str | None]]:
    """Yield each `TRELLIS_*` variable of the environment that is no setting, and the setting whose name is like it, if there is one."""
    known = {cls.env_name(name) for cls in settings_classes for name in cls.model_fields}
    known |= {old_name for cls in settings_classes for old_name in cls.deprecated_names.values()}
    for name in sorted(os.environ):
        if name.startswith("TRELLIS_") and name not in known | _OF_CLIENTS:
            yield name, next(iter(get_close_matches(name, known, 1, 0.8)), None)


def deprecated_settings_in_use(*settings_classes: type[TrellisSettings]) -> Iterator[tuple[str, str]]:
    """Yield (old name, new name) of each renamed setting that the environment still sets by its old name."""
    for settings_class in settings_classes:
        for field_name, old_name in settings_class.deprecated_names.items():
            if old_name in os.environ:
                yield old_name, settings_class.env_name(field_name)
