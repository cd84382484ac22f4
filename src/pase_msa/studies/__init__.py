"""Many runs as one table: cells, the engine that runs them in parallel, studies and sweeps."""

from pase_msa.optional import need

need("optuna")
