"""AWARE: attention-weighted supervised embeddings and the FAISS shards they are searched in."""
