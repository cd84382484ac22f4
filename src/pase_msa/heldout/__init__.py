"""Which modalities can be trusted: contributions in sample, by folds and on validation, and what they mean together."""
