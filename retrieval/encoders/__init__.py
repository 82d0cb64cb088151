"""Encoders: embeddings in which patients with similar outcomes are near."""
