"""Training on Lightning: the module, the data module, phases and the run folder."""
