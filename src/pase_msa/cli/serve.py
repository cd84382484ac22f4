"""`pase serve`."""

from __future__ import annotations


def serve(
    run: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    allowed_host: list[str] | None = None,
    modalities: list[str] | None = None,
    max_seconds: float = 120.0,
    max_megabytes: float = 50.0,
    clips: int = 1,
    waiting: int = 4,
    batch: int = 32,
    wait: float = 0.005,
    queue: int = 256,
    streams: int = 4,
) -> None:
    """Serve a model over HTTP: clips or features in, predictions out; live sound over a WebSocket.

    Args:
        run: run folder, or a folder with a saved model.
        host: address to listen on; 0.0.0.0 lets other machines in.
        port: port to listen on.
        allowed_host: further names by which it is reached, such as pase.example.org; requests under other names are
            refused. Addresses are always taken.
        modalities: to read, divided by commas, such as text; nothing else is extracted or used. All if left out.
        max_seconds: length of the longest clip.
        max_megabytes: size of the largest request.
        clips: number that are read at the same time; each takes a core, and the first of each some memory.
        waiting: number of clips that may wait; further ones are refused with status 503.
        batch: most utterances of features that are predicted together.
        wait: seconds that the first of them waits for others.
        queue: number of utterances of features that may wait; further ones are refused with status 503.
        streams: number of live streams at the same time; further ones are refused with status 503.
    """
    from pase_msa.optional import need

    need("fastapi", "uvicorn", "websockets", "prometheus_client")
    from pase_msa.serve.api import run_server
    from pase_msa.serve.limits import Limits

    limits = Limits(max_seconds, max_megabytes, clips, waiting, batch, wait, queue, streams=streams)
    run_server(run, limits, host=host, port=port, further_hosts=allowed_host or [], modalities=modalities)
