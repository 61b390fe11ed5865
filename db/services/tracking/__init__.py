"""Runs of external code: made, measured and ended through the API, without a job."""
