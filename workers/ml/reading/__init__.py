"""Reads untrusted files into typed columns: format detection, checks, repairs and type inference, block by block."""
