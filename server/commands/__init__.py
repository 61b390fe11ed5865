"""Command groups of `trellis`. A module declares options; what a command runs is imported when it runs."""
