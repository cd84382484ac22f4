"""Balancing of modalities: one module per method."""
