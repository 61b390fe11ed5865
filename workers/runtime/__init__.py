"""The job engine: it claims jobs, runs each in a child process, keeps its lease by heartbeats, and settles it."""
