"""Rate limits: counted in Redis, and in the process while Redis is unavailable."""
