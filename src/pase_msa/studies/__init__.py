"""Many runs as one table: cells, the engine that plays them, studies, sweeps, ledger entries."""

from pase_msa.optional import need

need("filelock", "optuna")
