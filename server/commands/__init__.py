"""The commands of `trellis` that have a story of their own. Each module names its options; what it runs is imported when it runs."""
