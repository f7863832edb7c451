"""One file a stage of a round. A stage reads results of earlier stages, and commits exactly one result."""
