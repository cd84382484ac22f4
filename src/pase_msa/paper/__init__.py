"""The tables and figures of the paper, and further ones: one file each, found by its name.

A file with `build` is a table or figure, and holds all of it: `variants` (the configurations that are trained),
`measure` (a data frame from runs), `draw` (a matplotlib figure from the data frame) and `build` (the section of
results).
"""

from pase_msa.optional import need

need("matplotlib")
