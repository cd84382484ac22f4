"""`pase compare`."""

from __future__ import annotations

from pathlib import Path


def compare(runs: list[Path], *, against: list[Path] | None = None, json: bool = False) -> None:
    """Compare evaluated runs: paired bootstrap and permutation test.

    Args:
        runs: run folders: A and B, or all of A with --against.
        against: run folders of B, paired with A by seed; folds of a seed are pooled.
        json: print one JSON object instead of a table.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.evaluation.compare import compare as compare_runs
    from pase_msa.files import strict_json
    from pase_msa.report.terminal import render_comparison

    if against is None and len(runs) != 2:
        raise PaSEError(
            f"A comparison wants two run folders, or several and as many after --against; found {len(runs)}."
        )
    comparison = compare_runs(runs, against) if against is not None else compare_runs(runs[:1], runs[1:])
    print(strict_json(comparison) if json else render_comparison(comparison))
