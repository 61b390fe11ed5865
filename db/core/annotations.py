"""Annotations: texts by key that people and programs attach to a thing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from db.core.checks import Checks

MAX_ANNOTATIONS = 500
KEY_LENGTH = 250
VALUE_LENGTH = 8_000


def changed_annotations(checks: Checks, annotations: Mapping[str, str], changes: Any) -> dict[str, str]:
    """The annotations with these changes, of which None removes one; adds an issue for each that cannot be kept."""
    if changes is None:
        return {}
    if not isinstance(changes, dict):
        checks.add("annotations", message='An object of texts by key is expected here, such as {"stage": "draft"}.')
        return dict(annotations)
    result = dict(annotations)
    for key, value in cast("dict[str, Any]", changes).items():
        if not 1 <= len(key) <= KEY_LENGTH or "\x00" in key:
            checks.add("annotations", key[:KEY_LENGTH], message=f"A key has 1 to {KEY_LENGTH} characters, none of them NUL.")
        elif value is None:
            result.pop(key, None)
        elif not isinstance(value, str):
            checks.add("annotations", key, message="A value is a text, or null to remove the annotation.")
        else:
            result[key] = checks.text(value, "annotations", key, length=VALUE_LENGTH) or ""
    if len(result) > MAX_ANNOTATIONS:
        checks.add("annotations", message=f"These would be {len(result)} annotations; a thing has at most {MAX_ANNOTATIONS}.")
    return result
