"""Damaged inputs, drawn from a seed: whatever is read ends in a result or in one sentence (see `__main__`)."""
