"""From a file of unknown origin to typed columns: sniffing, checking, repairing and typing, block by block."""
