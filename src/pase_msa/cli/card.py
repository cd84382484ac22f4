"""`pase card`."""

from __future__ import annotations


def card(run: str, *, data: str | None = None, out: str | None = None) -> None:
    """Write the card of a model: its data, its results with intervals and by group, its uses, its licence.

    Args:
        run: run folder of a complete `pase train`, or a folder with a saved model.
        data: where the data are now, if they have moved; they are read for the groups only.
        out: file to write; README.md in the folder of the model if left out.
    """
    from pathlib import Path

    from pase_msa.cards.card import CARD, write_card
    from pase_msa.errors import PaSEError
    from pase_msa.evaluation.card import model_folder, run_card
    from pase_msa.files import check_out, write_text

    if out is not None:
        check_out(out)
    content, folder = run_card(run, data=data), model_folder(run)
    if out is not None:
        write_text(Path(out), content)
    elif not write_card(folder, content):
        raise PaSEError(
            f"{folder / CARD} was written by hand and is left as it is; remove it, or name another file with --out."
        )
    print(f"card: {out or folder / CARD}")
