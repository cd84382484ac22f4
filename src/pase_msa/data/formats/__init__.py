"""Readers of published feature formats, one a file."""
