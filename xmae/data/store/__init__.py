"""The folder that keeps windows: shards, index, integrity, overview, labels."""
