"""Balancing of modalities: one module a method."""
