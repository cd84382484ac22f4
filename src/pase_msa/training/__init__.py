"""Training on Lightning, from a configuration to a run folder.

This file imports nothing, so that whoever reads a run folder loads no Lightning.
"""
