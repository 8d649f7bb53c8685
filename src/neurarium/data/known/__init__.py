"""The known sets: one table of sources and hashes, the cache, and how each becomes a `Split`."""
