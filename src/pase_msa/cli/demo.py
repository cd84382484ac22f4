"""`pase demo`."""

from __future__ import annotations


def demo(
    run: str,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    allowed_host: list[str] | None = None,
    modalities: list[str] | None = None,
    max_seconds: float = 600.0,
    max_megabytes: int = 200,
) -> None:
    """Open a page on which clips are predicted.

    Args:
        run: run folder, or a folder with a saved model; clips in RUN/examples are offered.
        host: address to listen on; 0.0.0.0 lets other machines in.
        port: port to listen on.
        allowed_host: further names by which it is reached, such as pase.example.org; requests under other names are
            refused. Addresses are always taken.
        modalities: to read, divided by commas, such as text; nothing else is extracted or used. All if left out.
        max_seconds: length of the longest clip.
        max_megabytes: size of the largest upload.
    """
    from pase_msa.optional import need

    need("gradio", "fastapi", "uvicorn")
    from pase_msa.serve.page_server import launch

    launch(
        run,
        host=host,
        port=port,
        max_seconds=max_seconds,
        max_megabytes=max_megabytes,
        further_hosts=allowed_host or [],
        modalities=modalities,
    )
