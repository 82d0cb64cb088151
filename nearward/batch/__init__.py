"""Scoring jobs over folders of tables: planned in shards, resumable, bounded in memory, on one machine or on Ray.

The output folder is the only state. A shard is done when its sidecar exists, belongs to the job, and the output has the recorded hash;
engines keep no state that matters.
"""
