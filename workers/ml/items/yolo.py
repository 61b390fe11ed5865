"""Annotations as YOLO has them: `data.yaml`, and for each file in `images` a text in `labels` with a line per object (docs.ultralytics.com/datasets)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from workers.ml.items import limits
from workers.ml.items.annotations import AnnotationLog, Annotations, Box
from workers.ml.items.archive import Member, UnreadableMember
from workers.ml.items.paths import resolver, split_of_path, stem_of, suffix_of
from workers.ml.items.places import ArchiveContent, Layout, Place
from workers.ml.items.yaml_file import NotYaml, read_mapping
from workers.ml.reading.issues import short_repr
from workers.ml.split_names import SPLITS

_NAME_FILES: Final = ("classes.txt", "obj.names", "predefined_classes.txt")
_MIN_LABELLED_SHARE: Final = 0.5  # of images that have a file of labels, where no data.yaml says that it is YOLO
_TOLERANCE: Final = 0.001  # by which a share may be outside 0 to 1, as rounding makes
_POLYGON: Final = 6  # numbers of the smallest


@dataclass(slots=True)
class _Config:
    """What `data.yaml` says; `points` is the number of values of a pose behind its box.

    Without names of the classes, their numbers become the names as they occur.
    """

    path: str
    names: dict[int, str] = field(default_factory=dict[int, str])
    has_names: bool = False
    splits: list[tuple[str, list[str]]] = field(default_factory=list[tuple[str, list[str]]])
    root: str = ""
    points: int = 0


def by_yolo(content: ArchiveContent) -> Layout | None:
    """The layout of an archive with files of labels beside its images. Raises BadInput (CORRUPT_ANNOTATIONS)."""
    images = [member for member in content.members if suffix_of(member.path) in content.suffixes]
    texts = {member.path: member for member in content.members if suffix_of(member.path) == ".txt"}
    labels = {image.path: texts[path] for image in images if (path := _label_path(image.path)) in texts}
    if not labels:
        return None
    config = _read_config(content)
    if config is None:
        are_apart = all("labels" in member.path.split("/")[:-1] for member in labels.values())
        if not are_apart or len(labels) < _MIN_LABELLED_SHARE * len(images):
            return None
        config = _without_yaml(content)
    log = AnnotationLog(content.issues, content.filename)
    splits = _splits(content, config, images)
    places: list[tuple[Member, Place]] = []
    for image in images:
        place = Place(split=splits.get(image.path) or split_of_path(image.path))
        place.annotations = Annotations(1, is_relative=True)
        if (member := labels.get(image.path)) is not None:
            _read_labels(content, member, place.annotations, config, log)
        place.annotations.names = config.names
        place.label = place.annotations.label()
        places.append((image, place))
    log.check()
    if not config.has_names and not config.path:
        content.issues.add(
            "NO_CLASS_NAMES", "The archive has no data.yaml or classes.txt with the names of the classes: the labels are their numbers."
        )
    _report_rest(content, images, labels, texts, config)
    return Layout("YOLO", places)


def _label_path(path: str) -> str:
    """Where the labels of an image are: in the folder `labels` instead of the last `images`, or beside it."""
    *folders, name = path.split("/")
    for index in reversed(range(len(folders))):
        if folders[index].lower() == "images":
            folders[index] = "labels"
            break
    return "/".join([*folders, name.rpartition(".")[0] + ".txt"])


def _report_rest(
    content: ArchiveContent, images: Sequence[Member], labels: Mapping[str, Member], texts: Mapping[str, Member], config: _Config
) -> None:
    used = {image.path for image in images} | {member.path for member in labels.values()} | {config.path}
    lost = [path for path in texts if path not in used and "labels" in path.split("/")[:-1]]
    if lost:
        content.issues.add("MISSING_FILES", f"{len(lost):,} files of labels have no image in the archive, first {short_repr(lost[0])}.")
    lists = {entry for _, entries in config.splits for entry in entries if entry.endswith(".txt")}
    content.report_skipped(
        [
            member
            for member in content.members
            if member.path not in used
            and member.path not in lost
            and member.path.rpartition("/")[2] not in (*_NAME_FILES, *(entry.rpartition("/")[2] for entry in lists))
        ]
    )


def _read_config(content: ArchiveContent) -> _Config | None:
    """The first YAML file near the top that has names of classes; one that is damaged counts if it is called data.yaml."""
    near = [member for member in content.members if suffix_of(member.path) in (".yaml", ".yml") and member.path.count("/") <= 1]
    for member in near[: limits.MAX_MANIFEST_CANDIDATES]:
        try:
            mapping = read_mapping(content.read(member))
            if "names" in mapping or "nc" in mapping:
                return _config_of(content, member.path, mapping)
        except (NotYaml, UnreadableMember) as error:
            if stem_of(member.path) in ("data", "dataset"):
                message = f"{short_repr(member.path)} cannot be read: it {error}. The labels are the numbers of the classes."
                content.issues.add("BROKEN_CONFIG", message)
                config = _without_yaml(content)
                config.path = member.path
                return config
    return None


def _config_of(content: ArchiveContent, path: str, mapping: Mapping[str, object]) -> _Config:
    config = _Config(path)
    names = mapping.get("names")
    if isinstance(names, list):
        config.names = {number: str(name) for number, name in enumerate(names) if isinstance(name, str)}
    elif isinstance(names, dict):
        config.names = {
            int(number): name for number, name in names.items() if number.isdecimal() and len(number) < 9 and isinstance(name, str)
        }
    if names is not None and (not isinstance(names, list | dict) or len(config.names) < len(names)):
        message = (
            f"{short_repr(path)} has in `names` what is neither a list of names nor numbers with a name; classes without one are left out."
        )
        content.issues.add("BROKEN_CONFIG", message)
    config.names = {number: name.strip()[: limits.MAX_LABEL_LENGTH] or str(number) for number, name in config.names.items()}
    config.has_names = bool(config.names)
    count = mapping.get("nc")
    if isinstance(count, str) and count.isdecimal() and config.names and int(count[:9]) != len(config.names):
        content.issues.add("CLASS_COUNT", f"{short_repr(path)} says {count} classes (`nc`), and names {len(config.names):,}.")
    root = mapping.get("path")
    config.root = root if isinstance(root, str) else ""
    for name in SPLITS:
        value = mapping.get(name)
        entries = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        config.splits.append((SPLITS[name], [entry for entry in entries if isinstance(entry, str)]))
    shape = mapping.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(isinstance(side, str) and side.isdecimal() and len(side) < 5 for side in shape):
        config.points = int(str(shape[0])) * int(str(shape[1]))
    return config


def _without_yaml(content: ArchiveContent) -> _Config:
    """The names of the classes by line, as programs for labelling write them."""
    for member in content.members:
        if member.path.rpartition("/")[2].lower() in _NAME_FILES:
            try:
                lines = content.read_small(member).splitlines()
            except (UnreadableMember, UnicodeDecodeError):
                continue
            names = {number: line.strip()[: limits.MAX_LABEL_LENGTH] for number, line in enumerate(lines) if line.strip()}
            return _Config("", names, has_names=bool(names))
    return _Config("")


def _splits(content: ArchiveContent, config: _Config, images: Sequence[Member]) -> dict[str, str]:
    """The split of each image that `data.yaml` names by a folder or by a list of files; the first that names it counts."""
    splits: dict[str, str] = {}
    folders = {image.path: f"/{image.path.rpartition('/')[0]}/" for image in images}
    for split, entries in config.splits:
        for entry in entries:
            parts = [part for part in f"{config.root}/{entry}".replace("\\", "/").split("/") if part not in ("", ".", "..")]
            if entry.endswith(".txt"):
                for path in _listed(content, parts, images):
                    splits.setdefault(path, split)
                continue
            for start in range(len(parts)):  # a path of another machine ends in one of the archive
                folder = f"/{'/'.join(parts[start:])}/"
                inside = [path for path, own in folders.items() if own.startswith(folder)]
                if inside:
                    for path in inside:
                        splits.setdefault(path, split)
                    break
    return splits


def _listed(content: ArchiveContent, parts: Sequence[str], images: Sequence[Member]) -> list[str]:
    member = next((member for member in content.members if member.path.rpartition("/")[2] == parts[-1]), None)
    if member is None or member.size > limits.MAX_MANIFEST_BYTES:
        return []
    try:
        lines = content.read(member).decode("utf-8-sig").splitlines()
    except (UnreadableMember, UnicodeDecodeError):
        return []
    resolve = resolver(member, images)
    found = [(line.strip(), resolve(line.strip())) for line in lines if line.strip()]
    content.report_missing(member.path, [line for line, path in found if path is None])
    return [path for _, path in found if path is not None]


def _read_labels(content: ArchiveContent, member: Member, annotations: Annotations, config: _Config, log: AnnotationLog) -> None:
    try:
        text = content.read_small(member)
    except (UnreadableMember, UnicodeDecodeError) as error:
        log.total += 1
        log.add_broken(member.path, "", str(error) if isinstance(error, UnreadableMember) else "is no text")
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not (fields := line.split()):
            continue
        log.total += 1
        parsed = _parse(fields, config)
        if isinstance(parsed, str):
            log.add_broken(member.path, f"line {number:,}", parsed)
            continue
        category, box = parsed
        if not config.has_names:
            config.names.setdefault(category, str(category))
        annotations.add(category, box, box[2] * box[3])


def _parse(fields: Sequence[str], config: _Config) -> tuple[int, Box] | str:
    """The class and its box, or what is wrong: a box by its centre, the same with a confidence or the points of a pose, or a polygon."""
    first, *rest = fields
    if not first.isdecimal() or len(first) > 8:
        return f"has {short_repr(first)} where the number of a class is expected"
    category = int(first)
    if config.has_names and category not in config.names:
        return f"has the class {category}, which has no name"
    try:
        values = [float(value) for value in rest]
    except ValueError:
        return "has a value that is no number"
    if not all(math.isfinite(value) for value in values):
        return "has a value that is no finite number"
    if config.points and len(values) == 4 + config.points:
        values = values[:4]
    if len(values) == 5:  # with the confidence of a prediction
        values = values[:4]
    if any(not -_TOLERANCE <= value <= 1 + _TOLERANCE for value in values):
        return "has a value outside 0 to 1: coordinates are shares of the width and the height"
    if len(values) == 4:
        x, y, width, height = values
        box = x - width / 2, y - height / 2, width, height
    elif len(values) >= _POLYGON and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
        box = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    else:
        return f"has {len(values)} numbers after the class; a box has 4, and a polygon 2 for each of at least 3 points"
    if box[2] <= 0 or box[3] <= 0:
        return "has a box without width or height"
    if box[0] < -_TOLERANCE or box[1] < -_TOLERANCE or box[0] + box[2] > 1 + _TOLERANCE or box[1] + box[3] > 1 + _TOLERANCE:
        return "has a box that is not within the image"
    return category, box
