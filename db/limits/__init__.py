"""What limits how much a client may use: counted in Redis, and in the process while Redis is away."""
