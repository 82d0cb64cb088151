"""Scoring jobs over folders of tables: planned in shards, resumable, bounded in memory, on one machine or on Ray.

The folder is the truth. A shard is done when its sidecar is there, belongs to the job, and its hash holds; whatever an engine
remembers or forgets does not matter.
"""
