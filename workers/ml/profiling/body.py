"""The body of PROFILE jobs."""

from __future__ import annotations

from typing import TypedDict

from workers.ml import stages
from workers.ml.profiling.profiler import profile_parquet
from workers.ml.profiling.report import ProfileReport
from workers.ml.reporting import Reporter


class ProfileSpec(TypedDict):
    """The Parquet file of a version."""

    parquet: str


def profile_version(spec: ProfileSpec, reporter: Reporter) -> ProfileReport:
    """Profile the file of a version, as its ingest did."""
    with stages.stage(reporter, stages.PROFILE, 0, 100) as stage:
        report = profile_parquet(spec["parquet"], stage, start_percent=0, end_percent=99)
        stage.output["columns"] = len(report["columns"])
    return report
