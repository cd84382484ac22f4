"""Several targets: one run for several labels of the same table, whose models share their encoders."""
