"""Planned execution: an operation becomes a plan once, and the plan reads whole levels instead of field by field."""
