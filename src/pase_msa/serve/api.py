"""The server: a clip or features in, answers out, and never more at a time than it can carry."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.media.decode import probe
from pase_msa.parallel import threads
from pase_msa.serve.batching import Batcher, Saturated
from pase_msa.serve.bodies import FeatureRequest, LimitBody, utterance
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.limits import Limits
from pase_msa.serve.predictor import Prediction, Predictor

_BLOCK = 1 << 20
_CLOSED = "This model takes features only: "
_log = logging.getLogger(__name__)


class Service:
    """A model, and what is done with it at the same time.

    Args:
        run: run folder, or a folder with a saved model.
        limits: what is taken on.
    """

    def __init__(self, run: str | Path, limits: Limits) -> None:
        self.limits = limits
        self.clips: ClipPredictor | None = None
        self.closed = ""
        try:
            self.clips = ClipPredictor(run)
            self.predictor = self.clips.predictor
        except PaSEError as error:  # a model of other features still answers features
            self.predictor, self.closed = Predictor(run), f"{_CLOSED}{error}"
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pase_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.latency = Histogram("pase_seconds", "Seconds of a request", ["path"], registry=self.registry)
        self.sizes = Histogram(
            "pase_batch", "Utterances of a batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self.busy = Gauge("pase_clips", "Clips that are read or wait", registry=self.registry)
        self.queued = Gauge("pase_queue", "Utterances of features that are predicted or wait", registry=self.registry)
        self.batcher: Batcher[Utterance, Prediction] = Batcher(
            self._predict, limits.batch, limits.wait, limits.queue, self.sizes.observe
        )
        self._readers = ThreadPoolExecutor(limits.clips, "clip")
        self._taken = 0
        self.queued.set_function(lambda: self.batcher.waiting)
        self.busy.set_function(lambda: self._taken)

    def _predict(self, rows: list[Utterance]) -> list[Prediction]:
        """One batch; ids are the places, since those of several requests may be alike."""
        inputs = self.predictor.model.inputs
        numbered = [Utterance(str(i), "", "", {}, row.features, row.text) for i, row in enumerate(rows)]
        dims = {name: spec.dim for name, spec in inputs.items() if spec.text is None}
        schema = Schema(dims, {}, any(spec.text is not None for spec in inputs.values()))
        found = list(self.predictor.predict(FeatureTable.build(numbered, schema)))
        for row, prediction in zip(rows, found, strict=True):
            prediction.id = row.id
        return found

    async def answer_clip(self, upload: UploadFile, text: str | None, explain: bool) -> dict[str, Any]:
        """Store an upload, read it and forget it."""
        if self.clips is None:
            raise PaSEError(self.closed)
        if self._taken >= self.limits.clips + self.limits.waiting:
            raise Saturated
        self._taken += 1
        try:
            # the name that it was sent with is not used: the content tells what it is
            with tempfile.TemporaryDirectory(prefix="pase_") as folder:
                path = Path(folder) / "clip"
                with path.open("wb") as stream:
                    while block := await upload.read(_BLOCK):
                        stream.write(block)
                # a thread that has begun reads to its end, also where nobody waits any more: so does the folder
                work = asyncio.get_running_loop().run_in_executor(self._readers, self._read, path, text, explain)
                try:
                    return await asyncio.shield(work)
                except asyncio.CancelledError:
                    with contextlib.suppress(Exception):
                        await work
                    raise
        finally:
            self._taken -= 1

    def _read(self, path: Path, text: str | None, explain: bool) -> dict[str, Any]:
        assert self.clips is not None
        try:
            seconds = probe(path).duration
            if seconds > self.limits.max_seconds:
                raise PaSEError(
                    f"The clip is {seconds:.0f} s long, and this server takes {self.limits.max_seconds:g} s at most; "
                    "cut it."
                )
            return self.clips.predict(path, text, words=explain, name="clip").to_dict()
        except PaSEError as error:
            raise PaSEError(str(error).replace(str(path), "The clip")) from None

    async def stop(self) -> None:
        """End what runs."""
        await self.batcher.stop()
        self._readers.shutdown(wait=True, cancel_futures=True)


def build_app(run: str | Path, limits: Limits | None = None) -> FastAPI:
    """The application.

    Args:
        run: run folder, or a folder with a saved model.
        limits: what is taken on.

    Errors:
        PaSEError: there is no model.
    """
    limits = limits or Limits()
    service = Service(run, limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with threads(1):
            service.batcher.start()
            yield
            await service.stop()

    app = FastAPI(title="PaSE", version=version("pase-msa"), lifespan=lifespan, summary="Multimodal sentiment analysis")
    app.state.service = service

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Whether the server answers, and what it reads."""
        task = service.predictor.model.task
        return {
            "status": "ok",
            "modalities": list(task.modalities),
            "label": task.label,
            "classes": list(task.classes),
            "clips": service.clips is not None,
        }

    @app.get("/metrics")
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(service.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/predict/clip")
    async def clip(
        file: Annotated[UploadFile, File(description="video or audio file, told apart by its content")],
        text: Annotated[str | None, Form(max_length=20_000, description="transcript; recognised if left out")] = None,
        explain: Annotated[bool, Form(description="attribute to words and over time")] = True,
    ) -> dict[str, Any]:
        """Answer a clip: score, confidence, contributions, by utterance, word and over time."""
        return await service.answer_clip(file, text, explain)

    @app.post("/predict/features")
    async def features(request: FeatureRequest) -> dict[str, Any]:
        """Answer utterances of which the features are there already, made as in training."""
        inputs = service.predictor.model.inputs
        rows = [utterance(row, inputs, limits.max_steps) for row in request.utterances]
        found = await service.batcher.submit(rows)
        return {"predictions": [prediction.to_dict() for prediction in found]}

    _errors(app)
    _measured(app, service)
    most = int(limits.max_megabytes * 1e6)
    sentence = f"A request may have {limits.max_megabytes:g} MB at most; send less."
    app.add_middleware(LimitBody, most=most, sentence=sentence)
    return app


def _errors(app: FastAPI) -> None:
    """Every refusal is a status and one sentence."""

    @app.exception_handler(PaSEError)
    async def mistake(request: Request, error: PaSEError) -> JSONResponse:
        return JSONResponse({"detail": " ".join(str(error).split())}, 422)

    @app.exception_handler(Saturated)
    async def saturated(request: Request, error: Saturated) -> JSONResponse:
        return JSONResponse(
            {"detail": "The server has as much to do as it takes on; try again."}, 503, {"Retry-After": "1"}
        )

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"][1:])) or "the request"
        return JSONResponse({"detail": f"{where}: {first['msg']}; see /docs."}, 422)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "The request could not be answered because of a fault of ours."}, 500)


def _measured(app: FastAPI, service: Service) -> None:
    @app.middleware("http")
    async def measure(request: Request, follow: Any) -> Response:
        began, status = time.perf_counter(), 500
        try:
            response: Response = await follow(request)
            status = response.status_code
            return response
        finally:
            route = request.scope.get("route")
            path = getattr(route, "path", "other")  # never the path as it was sent: it would be a series of its own
            service.requests.labels(path, str(status)).inc()
            service.latency.labels(path).observe(time.perf_counter() - began)


def run_server(run: str | Path, limits: Limits, *, host: str, port: int) -> None:
    """Serve until stopped."""
    import uvicorn

    app = build_app(run, limits)
    if app.state.service.closed:
        _log.info("%s", app.state.service.closed)
    print(
        f"serving {run} at http://{host}:{port}, described at http://{host}:{port}/docs (Ctrl+C stops it)", flush=True
    )
    # whatever is beyond what may wait is not even read
    most = 2 * (limits.clips + limits.waiting + limits.queue)
    uvicorn.run(app, host=host, port=port, log_level="warning", limit_concurrency=most)
