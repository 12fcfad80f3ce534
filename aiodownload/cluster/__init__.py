"""A run on any concurrent.futures.Executor: its bundles go out in shards by host, and come back settled."""
