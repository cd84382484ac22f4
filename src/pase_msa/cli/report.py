"""`pase report`."""

from __future__ import annotations

from pathlib import Path


def report(runs: list[Path], *, out: str = "report.html") -> None:
    """Write one HTML page about several evaluated runs.

    Args:
        runs: evaluated run folders of one data set.
        out: HTML file to write.
    """
    from pase_msa.report.group_page import write_group_report

    print(write_group_report(runs, out))
