"""Models: a batch becomes outputs and named losses."""
