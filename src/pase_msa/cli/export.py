"""`pase export`."""

from __future__ import annotations

from typing import Literal


def export(run: str, *, format: Literal["onnx"] = "onnx", out: str | None = None) -> None:
    """Export a model to a file that predicts from features without PyTorch.

    Args:
        run: run folder, or a folder with a saved model.
        format: kind of file.
        out: file to write; `model.onnx` in the folder if left out.
    """
    from pase_msa.serve.export import export_onnx

    print(f"{export_onnx(run, out)}: agrees with PyTorch")
