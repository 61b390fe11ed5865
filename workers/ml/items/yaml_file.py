"""Small YAML files, of which all that is read are texts, lists and mappings near the top."""

from __future__ import annotations

from typing import Any, Final

from workers.ml.items import limits

_MAX_DEPTH: Final = 3
_MAX_NODES: Final = 50_000


class NotYaml(Exception):
    """The text is no YAML that can be read; the message says why."""


def read_mapping(content: bytes) -> dict[str, object]:
    """Return a mapping with every scalar as it is written: YAML 1.1 takes `no` and `off` for booleans, which are names of classes as well.

    The nodes are composed and no objects are constructed, so an alias is a second reference and nothing is expanded. Raises `NotYaml`.
    """
    import yaml

    if len(content) > limits.MAX_YAML_BYTES:
        raise NotYaml(f"has {len(content):,} bytes; the maximum is {limits.MAX_YAML_BYTES:,}")
    try:
        node = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f" (line {error.problem_mark.line + 1})"
        raise NotYaml(f"is no valid YAML{place}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise NotYaml("is no text in UTF-8 without control characters") from error
    except RecursionError as error:
        raise NotYaml("is nested too deeply") from error
    value = _Converter().plain(node, _MAX_DEPTH)
    if not isinstance(value, dict):
        raise NotYaml("is no mapping of names to values")
    return value


class _Converter:
    """Makes texts, lists and mappings of nodes. A node counts as often as it is referred to, so that aliases do not multiply."""

    def __init__(self) -> None:
        self._nodes = 0

    def plain(self, node: Any, depth: int) -> Any:
        import yaml

        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise NotYaml(f"has more than {_MAX_NODES:,} values")
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        if not depth:
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(entry, depth - 1) for entry in node.value]
        if isinstance(node, yaml.MappingNode):
            return {str(key.value): self.plain(value, depth - 1) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        return None
