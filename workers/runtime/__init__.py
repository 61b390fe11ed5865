"""The engine: it takes jobs, lends them a child process, keeps their leases, and settles what they made."""
