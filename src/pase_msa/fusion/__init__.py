"""Fusions: modality vectors, weights and prototypes become one vector."""
