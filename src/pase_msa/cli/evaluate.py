"""`pase evaluate`."""

from __future__ import annotations

from typing import Literal


def evaluate(
    run: str,
    *,
    data: str | None = None,
    convention: Literal["mmsa", "mult", "pase", "sims", "mosi"] | None = None,
    by: str | None = None,
    json: bool = False,
) -> None:
    """Evaluate a run on its test split, once: metrics, subsets of modalities, contributions, calibration.

    Args:
        run: run folder of a complete `pase train`.
        data: where the data are now, if they have moved, or other data to try the model on.
        convention: how metrics are defined; that of the run if left out.
        by: column of the data (speaker, video or a label) whose groups are measured one by one, with the worst of them.
        json: print one JSON object instead of tables.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.evaluation.evaluate import evaluate as evaluate_run
    from pase_msa.evaluation.subgroups import subgroup_metrics
    from pase_msa.files import strict_json
    from pase_msa.optional import how_to_install, installed
    from pase_msa.report.subgroups import render_subgroups
    from pase_msa.report.terminal import render_table
    from pase_msa.targets.names import target_folders
    from pase_msa.targets.prediction import evaluate_targets
    from pase_msa.training.run_folder import RunFolder

    if by is not None and convention is not None:
        raise PaSEError("--by measures groups in the convention of the run; leave out --convention.")
    if (targets := target_folders(run)) is not None:
        if by is not None:
            raise PaSEError(
                f"--by measures one target; give the folder of one, such as {next(iter(targets.values()))}."
            )
        results = evaluate_targets(run, data=data, convention=convention)
        if json:
            print(strict_json({"targets": results}))
            return
        for label, found in results.items():
            print(f"{label}\n{render_table(found)}")
        print(f"each target is a run of its own, for `pase report`, `pase serve` and the rest: {run}/targets")
        return
    result = evaluate_run(run, data=data, convention=convention)
    groups = None if by is None else subgroup_metrics(run, by, data=data)
    if json:
        print(strict_json(result if groups is None else {**result, "subgroups": groups}))
    else:
        print(render_table(result))
        if groups is not None:
            print(render_subgroups(groups))
    # a result on other data or in another convention is not the run's own, and is not written to its folder
    if not RunFolder(run).evaluation.is_file():
        return
    if installed("jinja2") and installed("matplotlib"):
        from pase_msa.report.run_page import report_run

        report = f"report: {report_run(run)}"
    else:
        report = f"no report.html. {how_to_install('jinja2', 'matplotlib')}"
    if not json:
        print(report)
