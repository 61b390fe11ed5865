"""Hundreds of bad files, uploaded as people do: each is refused with its reason in a minute and two gigabytes, by a worker that goes on."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import pytest
import zstandard

from db.settings import StateSettings
from tests.archives import csv_of, vibration, zip_of
from tests.client import Client
from tests.items import test_images
from tests.prefork import ForkedProcess, prefork_server
from tests.workers import (
    test_annotated_archives,
    test_archives_of_items,
    test_bad_files,
    test_matlab_signals,
    test_recordings,
    test_reported_inputs,
    test_segy,
    test_texts,
    test_videos,
)

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(1_200)]

SECONDS, MEMORY_BYTES = 60, 2 * 1024**3
AT_ONCE = 8
REQUEST = """mutation($input: RequestUploadInput!) { requestUpload(input: $input) { ... on InvalidInput { issues { path message } }
  ... on RequestUploadPayload { upload { id method url headers { name value } } } } }"""
JOB = "query($id: ID!) { job(id: $id) { status attempt tries duration error { code message } outputs { __typename } } }"
VERSION = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { status issues { code message } processedFile { id } items { totalCount } } } }"


@dataclass(frozen=True)
class BadFile:
    """`code` and `words` are those of the job's error."""

    case: str
    modality: str
    filename: str
    content: bytes
    code: str
    words: str


def bad_tables() -> list[BadFile]:
    own = [(f"table {case}", name, content, code, words) for case, name, content, code, _, words in test_bad_files.REFUSED]
    reported = [(f"table of {report}", name, content, code, words) for report, name, content, code, words in test_reported_inputs.REFUSED]
    return [
        BadFile(case, "TABULAR", name, content.encode() if isinstance(content, str) else content, code, words)
        for case, name, content, code, words in (*own, *reported)
    ]


def bad_signals() -> list[BadFile]:
    of_archives = [
        BadFile(f"signals: {case}", "SIGNAL", name, content, code, words)
        for case, (content, name, code, words) in test_archives_of_items.REFUSED.items()
        if "bomb" not in case  # those are small, for a test that lowers the limit
    ]
    bombs = [
        BadFile(f"signals: a bomb as {name}", "SIGNAL", name, content, "ARCHIVE_TOO_LARGE", "unfolds to more than")
        for name, content in (
            ("s.zip", zip_of({"a/1.csv": bytes(600 << 20)})),
            ("s.tar.gz", gzip.compress(bytes(600 << 20), 1)),
            ("s.tar.zst", zstandard.compress(bytes(600 << 20))),
        )
    ]
    single = [
        BadFile(f"{kind} {number}", "SIGNAL", name, content, "UNREADABLE_FILE", words)
        for kind, name, damaged in (
            ("SEG-Y", "line.sgy", test_segy.DAMAGED),
            ("MATLAB", "97.mat", [*test_matlab_signals.DAMAGED, (test_matlab_signals.bomb(600 << 20), "unfolds to more than")]),
        )
        for number, (content, words) in enumerate(damaged)
    ]
    return [*of_archives, *bombs, *single]


def bad_items() -> list[BadFile]:
    """Each alone in an archive."""
    damaged = [
        (modality, f"a/1.{extension}", number, content, words)
        for modality, extension, cases in (
            ("IMAGE", "png", test_images.DAMAGED),
            ("AUDIO", "wav", test_recordings.DAMAGED),
            ("TEXT", "txt", test_texts.DAMAGED),
            ("VIDEO", "mp4", [(make(), words) for make, words in test_videos.REFUSED.values()]),
        )
        for number, (content, words) in enumerate(cases)
    ]
    return [
        BadFile(f"{modality} {number}", modality, "a.zip", zip_of({name: content}, compressed=False), "CORRUPT_ITEMS", words)
        for modality, name, number, content, words in damaged
    ]


def bad_annotations() -> list[BadFile]:
    return [
        BadFile(f"images: {case}", "IMAGE", "i.zip", zip_of(test_annotated_archives.PICTURES | dict(files)), "CORRUPT_ANNOTATIONS", words)
        for case, (files, words) in test_annotated_archives.REFUSED.items()
    ]


KINDS = {"tables": bad_tables, "signals": bad_signals, "items": bad_items, "annotations": bad_annotations}


@pytest.fixture(scope="module")
async def frugal_worker(
    settings: StateSettings, live_server: object, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[ForkedProcess]:
    """A worker whose bodies may use two gigabytes."""
    environment = {**os.environ, "TRELLIS_WORKER_MEMORY_BYTES": str(MEMORY_BYTES)}
    process = prefork_server().start([sys.executable, "-m", "server.cli", "worker"], environment, tmp_path_factory.mktemp("frugal") / "log")
    yield process
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait, 60)


def test_there_are_more_than_two_hundred() -> None:
    cases = [file.case for make in KINDS.values() for file in make()]
    assert len(cases) > 200


@pytest.mark.parametrize("kind", KINDS)
async def test_each_is_refused_in_little_time_and_memory_by_a_worker_that_goes_on(
    ada: Client, frugal_worker: ForkedProcess, kind: str
) -> None:
    """Of more than two gigabytes, or at the death of its process, the error would not be the reader's."""
    files, slots = KINDS[kind](), asyncio.Semaphore(AT_ONCE)
    datasets = {modality: await ada.create_dataset(modality, modality=modality) for modality in {file.modality for file in files}}

    async def fate(file: BadFile) -> str | None:
        """What is not as it should be."""
        async with slots:
            asked = {"datasetId": datasets[file.modality], "filename": file.filename, "sizeBytes": len(file.content)}
            requested = await ada.one(REQUEST, input=asked)
            if "issues" in requested:  # an extension that is not read, or no bytes at all: nothing is sent
                (issue,) = requested["issues"]
                is_told = issue["path"] in (["filename"], ["sizeBytes"]) and len(issue["message"]) > 20
                return None if is_told else f"{file.case}: {issue}"
            assert (await ada.put(requested["upload"], file.content)).status_code == 200, file.case
            completed = await ada.complete_upload(requested["upload"]["id"])
            await ada.wait(completed["job"]["id"], timeout=600)
        job = await ada.one(JOB, id=completed["job"]["id"])
        version = await ada.one(VERSION, id=completed["version"]["id"])
        duration, error = job.pop("duration"), job.pop("error")
        is_refused = (
            job == {"status": "FAILED", "attempt": 1, "tries": 1, "outputs": []}
            and (error["code"], file.words in error["message"]) == (file.code, True)
            and duration < SECONDS
            and (version["status"], version["processedFile"], version["items"]["totalCount"]) == ("FAILED", None, 0)
            and version["issues"][-1]["message"] == error["message"]
        )
        return None if is_refused else f"{file.case}: {job} {error} {duration} s {version}"

    async with asyncio.TaskGroup() as group:
        fates = [group.create_task(fate(file)) for file in files]
    assert [task.result() for task in fates if task.result() is not None] == []
    assert frugal_worker.poll() is None
    good = zip_of({f"a/{number}.csv": csv_of(vibration(5, number, length=50)) for number in range(3)})
    await ada.ingest("good", good, "good.zip", modality="SIGNAL")
