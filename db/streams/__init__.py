"""Streams: notices through Redis, events of followed jobs, and sessions of long-lived connections."""
