"""What a document may look like, what its operation costs, and how much a viewer may spend: all known before anything is run."""
