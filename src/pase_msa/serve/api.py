"""The server: a clip or features in, predictions out."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pase_msa.errors import PaSEError
from pase_msa.media.config import RecordingOptions
from pase_msa.parallel import threads
from pase_msa.serve.batching import QueueFull
from pase_msa.serve.body_limit import BodyLimit
from pase_msa.serve.hosts import HostCheck, allowed_hosts
from pase_msa.serve.limits import Limits
from pase_msa.serve.live_socket import LARGEST, add_live, quiet_refusals
from pase_msa.serve.results import SCHEMA_VERSION
from pase_msa.serve.schema import ClipResponse, FeatureRequest, FeatureResponse, Health, Refusal, utterance
from pase_msa.serve.service import Service
from pase_msa.serve.temporary import temporary_files

_log = logging.getLogger(__name__)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Refusal, "description": "The request is too large"},
    422: {"model": Refusal, "description": "The request cannot be predicted, for the reason given"},
    503: {"model": Refusal, "description": "Too much waits; try again after Retry-After seconds"},
}


def build_app(
    run: str | Path,
    limits: Limits | None = None,
    hosts: Sequence[str] = ("localhost",),
    modalities: Sequence[str] | None = None,
) -> FastAPI:
    """The application.

    Args:
        run: run folder, or a folder with a saved model.
        limits: how much is taken on.
        hosts: names by which it is reached, see `pase_msa.serve.hosts.allowed_hosts`; addresses always do.
        modalities: to read; all that the model reads if None.

    Errors:
        PaSEError: there is no model, or it does not read the modalities.
    """
    limits = limits or Limits()
    service = Service(run, limits, modalities)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with threads(1):
            service.batcher.start()
            yield
            await service.stop()

    app = FastAPI(title="PaSE", version=version("pase-msa"), lifespan=lifespan, summary="Multimodal sentiment analysis")
    app.state.service = service
    _add_state_routes(app, service)
    _add_prediction_routes(app, service)
    add_live(app, service.room, service.clips, absent=service.no_clips, observe=service.observe)
    _add_refusals(app)
    _add_measuring(app, service)
    sentence = f"A request may have {limits.max_megabytes:g} MB at most; send less."
    app.add_middleware(BodyLimit, most=int(limits.max_megabytes * 1e6), sentence=sentence)
    app.add_middleware(HostCheck, allowed_hosts=list(hosts), www_redirect=False)
    return app


def _add_state_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> Health:
        """Whether the server runs, and what its model reads."""
        task = service.predictor.model.task
        return Health(
            status="ok",
            modalities=list(service.inputs),
            label=task.label,
            classes=list(task.classes),
            clips=service.clips is not None,
        )

    @app.get("/metrics")
    async def metrics() -> Response:
        """Counters and latencies for Prometheus."""
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)


def _add_prediction_routes(app: FastAPI, service: Service) -> None:
    # a prediction has a score or a label: the field that it lacks is left out, and not sent as null
    options: dict[str, Any] = {"response_model_exclude_unset": True, "responses": _REFUSALS}

    @app.post("/predict/clip", response_model=ClipResponse, **options)
    async def clip(
        file: Annotated[UploadFile, File(description="video or audio file, told apart by its content")],
        text: Annotated[str | None, Form(max_length=20_000, description="transcript; recognised if left out")] = None,
        explain: Annotated[bool, Form(description="compute the influence of words and the curve")] = True,
        speakers: Annotated[
            str | None,
            Form(max_length=10, description="who speaks: auto, a number, or channels; not asked if left out"),
        ] = None,
        language: Annotated[
            str | None, Form(max_length=10, description="of the words: auto or a code; the training's if left out")
        ] = None,
    ) -> dict[str, Any]:
        """Predict a clip: score or label, confidence and contributions, by utterance, word and over time."""
        return await service.predict_clip(
            file, text, explain, RecordingOptions(speakers or None, language=language or None)
        )

    @app.post("/predict/features", response_model=FeatureResponse, **options)
    async def features(request: FeatureRequest) -> dict[str, Any]:
        """Predict utterances from features that were made as in training."""
        rows = [utterance(row, service.inputs, service.limits.max_steps) for row in request.utterances]
        predictions = await service.batcher.submit(rows)
        return {
            "schema_version": SCHEMA_VERSION,
            "predictions": [prediction.to_dict() for prediction in predictions],
        }


def _add_refusals(app: FastAPI) -> None:
    """Every refusal is a status and one sentence."""

    @app.exception_handler(PaSEError)
    async def mistake(request: Request, error: PaSEError) -> JSONResponse:
        return JSONResponse({"detail": " ".join(str(error).split())}, 422)

    @app.exception_handler(QueueFull)
    async def queue_full(request: Request, error: QueueFull) -> JSONResponse:
        sentence = "As many requests wait as may wait; try again in a second."
        return JSONResponse({"detail": sentence}, 503, {"Retry-After": "1"})

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:])) or "the request"
        return JSONResponse({"detail": f"{where}: {first['msg']}; see /docs."}, 422)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "The prediction failed because of a fault in the server."}, 500)


def _add_measuring(app: FastAPI, service: Service) -> None:
    @app.middleware("http")
    async def measure(request: Request, call_next: Any) -> Response:
        began, status = time.perf_counter(), 500
        try:
            response: Response = await call_next(request)
            status = response.status_code
            return response
        finally:
            route = request.scope.get("route")
            path = getattr(route, "path", "other")  # never the path as it was sent: it would be a series of its own
            service.requests.labels(path, str(status)).inc()
            service.latency.labels(path).observe(time.perf_counter() - began)


def run_server(
    run: str | Path,
    limits: Limits,
    *,
    host: str,
    port: int,
    further_hosts: Sequence[str] = (),
    modalities: Sequence[str] | None = None,
) -> None:
    """Serve until stopped.

    Args:
        run: run folder, or a folder with a saved model.
        limits: how much is taken on.
        host: address to listen on.
        port: to listen on.
        further_hosts: names by which the server is reached, beside this machine's own.
        modalities: to read; all that the model reads if None.

    Errors:
        PaSEError: there is no model, it does not read the modalities, or a name is none.
    """
    import uvicorn

    app = build_app(run, limits, allowed_hosts(host, further_hosts), modalities)
    if app.state.service.no_clips:
        _log.info("%s", app.state.service.no_clips)
    print(
        f"serving {run} at http://{host}:{port}, described at http://{host}:{port}/docs (Ctrl+C stops it)", flush=True
    )
    # requests beyond what may wait, twice over, are refused before they are read
    most = 2 * (limits.clips + limits.waiting + limits.queue + limits.streams)
    quiet_refusals()
    with temporary_files():
        uvicorn.run(
            app,
            host=host,
            port=port,
            log_level="warning",
            limit_concurrency=most,
            ws_max_size=LARGEST,
            ws_per_message_deflate=False,  # sound does not get smaller by it
        )
