"""The streams of a process: notices through Redis, the events of jobs that clients follow, and the sessions of connections that last."""
