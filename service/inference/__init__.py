"""Running models: manifest, session, batcher, repository. Nothing here knows a task or HTTP."""
