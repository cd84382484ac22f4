"""Tables and figures of the paper, and some beyond it: each file measures a data frame and draws it."""
