"""`pase diagnose`."""

from __future__ import annotations

from typing import Literal


def diagnose(
    data: str | None = None,
    *,
    label: str | None = None,
    modalities: list[str] | None = None,
    kind: Literal["auto", "regression", "classification"] = "auto",
    seed: int = 0,
    split: Literal["given", "auto"] = "given",
    context: Literal["none", "video", "before"] = "none",
    picture: str | None = None,
    json: bool = False,
) -> None:
    """Show which modalities can be trusted, before anything is trained; the test split is not read.

    Args:
        data: folder or file in any format that PaSE reads; the bundled synthetic benchmark if left out.
        label: label column; found if left out.
        modalities: those to use, divided by commas; all that the data hold if left out.
        kind: of task.
        seed: of folds and bootstrap.
        split: "auto" draws the splits that the data lack, as `pase train --split auto` does.
        context: whether what was said around an utterance in its video, or before it there, is a modality.
        picture: file to draw to, .png or .svg.
        json: print one JSON object instead of a table.
    """
    from pase_msa.files import strict_json
    from pase_msa.heldout.diagnose import diagnose as diagnose_data

    if picture is not None:
        from pase_msa.report.diagnosis_picture import check_picture, plot_diagnosis

        check_picture(picture)
    diagnosis = diagnose_data(
        data, label=label, modalities=modalities, kind=kind, seed=seed, split=split, context=context
    )
    if picture is not None:
        plot_diagnosis(diagnosis, picture)
    if json:
        print(strict_json(diagnosis.to_dict()))
        return
    if data is None:
        print("The bundled synthetic benchmark; name data of your own with --data.\n")
    print(diagnosis, end="")
    if picture is not None:
        print(f"picture: {picture}")
