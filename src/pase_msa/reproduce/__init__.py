"""The tables and figures of the paper, and some beyond it: one file each, found by its name."""
