"""Jobs of the kinds that no script stands for: exports, imports, predictions, explanations, generation, proposals, profiles, and a pipeline that exports."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.archives import image_of, tar_of
from tests.faults.viewers import Submission, Viewer
from tests.faults.workload import CSV, RUN, TRAINING, Workload

FILES_HOST = "127.0.0.2"
SETTINGS = {"TRELLIS_IMPORT_ALLOWED_NETWORKS": f'["{FILES_HOST}/32"]'}  # of a cluster whose workers fetch files from the harness
EXPORTING = [("data", "dataset", {}), ("scale", "scale", {}), ("out", "export", {"format": "jsonl"})]
OF_IMAGES = [("data", "dataset", {}), ("pixels", "image_pixels", {})]
OLDER_PROFILER = "UPDATE dataset_profiles SET profiler_version = 'older ' || id WHERE version_id = $1 AND profiler_version = '1'"

_NUMBERS = itertools.count(1)
"""In names and idempotency keys: of all tests, since those of one process share viewers."""


def _mutation(name: str) -> str:
    type_name = name[0].upper() + name[1:]
    return (
        f"mutation($input: {type_name}Input!) {{ {name}(input: $input) {{ __typename ... on {type_name}Payload {{ job {{ id }} }}"
        " ... on Problem { code message } } }"
    )


class ProductJobs:
    """Submits jobs of each kind, each twice. `kinds` are its public coroutines without arguments."""

    def __init__(self, workload: Workload, files_url: str | None = None) -> None:
        self._workload = workload
        self._files_url = files_url
        self._models: dict[str, str] = {}
        self._images: dict[str, str] = {}

    async def export(self) -> Submission:
        viewer = self._viewer()
        return await self._submit(viewer, "createExport", {"datasetVersionId": viewer.version, "format": "CSV"})

    async def export_list(self) -> Submission:
        table = {"target": "JOBS", "format": "JSONL", "filter": {"status": ["COMPLETED", "FAILED"]}}
        return await self._submit(self._viewer(), "exportTable", table)

    async def export_from_pipeline(self) -> Submission:
        viewer = self._viewer()
        pipeline = await viewer.pipeline("exporting", EXPORTING)
        run = {"pipelineId": pipeline, "datasetVersionId": viewer.version, "outputDatasetId": viewer.output, "seed": next(_NUMBERS)}
        return await self._workload.submit_twice(viewer, "exporting", "completed", f"exporting {next(_NUMBERS)}", RUN, run)

    async def import_file(self) -> Submission:
        viewer = self._viewer()
        return await self._submit(viewer, "importDataset", {"datasetId": viewer.output, "url": f"{self._files_url}/data.csv"})

    async def generate(self) -> Submission:
        viewer = self._viewer()
        generator = {"generator": "blobs", "parameters": {"rows": 50}, "seed": next(_NUMBERS)}
        return await self._submit(viewer, "generateDataset", {"datasetId": viewer.output, **generator})

    async def propose_schema(self) -> Submission:
        viewer = self._viewer()
        return await self._submit(viewer, "proposeSchema", {"datasetVersionId": viewer.version})

    async def profile(self) -> Submission:
        """Profile a version whose profile is of an older profiler."""
        viewer = self._viewer()
        await self._workload.cluster.rows(OLDER_PROFILER, viewer.version_key)
        return await self._submit(viewer, "profileVersion", {"datasetVersionId": viewer.version})

    async def compare_rows(self) -> Submission:
        viewer = self._viewer()
        return await self._submit(viewer, "compareRows", {"from": viewer.version, "to": viewer.version, "key": ["x"]})

    async def predict_rows(self) -> Submission:
        viewer = self._viewer()
        return await self._submit(viewer, "predict", {"modelVersionId": await self._model(viewer), "rows": [{"x": 1, "y": 2}]})

    async def predict_version(self) -> Submission:
        viewer = self._viewer()
        versions = {"modelVersionId": await self._model(viewer), "datasetVersionId": viewer.version, "outputDatasetId": viewer.output}
        return await self._submit(viewer, "predictDataset", versions)

    async def explain(self) -> Submission:
        viewer = self._viewer()
        return await self._submit(viewer, "createExplanation", {"modelVersionId": await self._model(viewer), "method": "TREE_SHAP"})

    async def read_images(self) -> Submission:
        """Run a pipeline that reads uploaded images."""
        viewer = self._viewer()
        pipeline = await viewer.pipeline("pixels", OF_IMAGES, modality="IMAGE")
        run = {"pipelineId": pipeline, "datasetVersionId": self._images[viewer.name], "seed": next(_NUMBERS)}
        run["outputDatasetId"] = viewer.output
        return await self._workload.submit_twice(viewer, "images", "completed", f"images {next(_NUMBERS)}", RUN, run)

    async def prepare(self) -> None:
        """Create what the jobs need before any fault: images, the models that predict, and pipelines, whose creation cannot be repeated."""
        images = {f"{label}/{number}.png": image_of(np.full((4, 4), 60 * number, np.uint8)) for label in "ab" for number in range(3)}
        for viewer in self._workload.viewers:
            if viewer.name not in self._images:
                name = f"{viewer.name}'s images {next(_NUMBERS)}"
                dataset = await viewer.client().create_dataset(name, modality="IMAGE")
                self._images[viewer.name], job = await viewer.client().upload(dataset, "images.tar", tar_of(images))
                await self._workload.wait_for_end(self._workload.record_submission(viewer, name, "ingest", [job]))
            await viewer.pipeline("exporting", EXPORTING)
            await viewer.pipeline("pixels", OF_IMAGES, modality="IMAGE")
            await self._model(viewer)

    def _viewer(self) -> Viewer:
        return self._workload.random.choice(self._workload.viewers)

    async def _submit(self, viewer: Viewer, name: str, mutation_input: dict[str, Any]) -> Submission:
        key = f"{name} {next(_NUMBERS)}"
        return await self._workload.submit_twice(viewer, name, "completed", key, _mutation(name), mutation_input)

    async def _model(self, viewer: Viewer) -> str:
        if viewer.name not in self._models:
            pipeline = await viewer.pipeline("forest", TRAINING)
            run = {"pipelineId": pipeline, "datasetVersionId": viewer.version, "modelName": f"{viewer.name}'s predictor", "seed": 1}
            training = await self._workload.submit_twice(viewer, "train", "completed", "predictor", RUN, run)
            await self._workload.wait_for_end(training)
            (row,) = await self._workload.cluster.rows("SELECT id FROM model_versions WHERE job_id = $1", training.job)
            self._models[viewer.name] = f"mversion_{row['id'].hex}"
        return self._models[viewer.name]


KINDS = (
    "export",
    "export_list",
    "export_from_pipeline",
    "import_file",
    "generate",
    "propose_schema",
    "profile",
    "compare_rows",
    "predict_rows",
    "predict_version",
    "explain",
    "read_images",
)


@contextmanager
def files_server() -> Generator[str]:
    """Serve a table over HTTP, and yield the address; for clusters with `SETTINGS`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = CSV.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/csv")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer((FILES_HOST, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{FILES_HOST}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
