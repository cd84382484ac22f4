"""A model behind a server: clips in a few threads, features in batches, and no more at a time than the limits allow."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import UploadFile
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pase_msa.data.inputs import TRANSIENT
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.media.config import RecordingOptions
from pase_msa.media.decode import duration_of
from pase_msa.serve.batching import Batcher, QueueFull
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.limits import Limits
from pase_msa.serve.live import Message
from pase_msa.serve.live_room import LiveRoom
from pase_msa.serve.predictor import Prediction, Predictor

_BLOCK = 1 << 20  # bytes of an upload that are in memory at once


class Service:
    """A model, and the requests that are worked on.

    Args:
        run: run folder, or a folder with a saved model.
        limits: how much is taken on.
        modalities: to read; the others are absent to the model. All that it reads if None.

    Attributes:
        clips: predicts clips; None for a model that was trained on other features than `pase extract` makes.
        no_clips: why `clips` is None, in a sentence.
        predictor: predicts from features.
        inputs: what requests may hold, by modality.
        batcher: gathers features of several requests into one batch.
        room: of the live streams; None without `clips`.
        registry: of the metrics for Prometheus.
    """

    def __init__(self, run: str | Path, limits: Limits, modalities: Sequence[str] | None = None) -> None:
        self.limits = limits
        self.clips: ClipPredictor | None = None
        self.no_clips = ""
        try:
            self.clips = ClipPredictor(run, modalities=modalities)
            self.predictor = self.clips.predictor
        except PaSEError as error:  # features can still be predicted
            self.predictor = Predictor(run, modalities=modalities)
            self.no_clips = f"This model takes features only: {error}"
        # what is said around an utterance is no part of a request
        own = self.predictor.model.inputs.items()
        self.inputs = {name: spec for name, spec in own if name in self.predictor.modalities and spec.context is None}
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "pase_requests", "Requests by path and status", ["path", "status"], registry=self.registry
        )
        self.latency = Histogram("pase_seconds", "Seconds per request", ["path"], registry=self.registry)
        sizes = Histogram(
            "pase_batch", "Utterances per batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self.batcher: Batcher[Utterance, Prediction] = Batcher(
            self._predict_batch, limits.batch, limits.wait, limits.queue, sizes.observe
        )
        self.room = None if self.clips is None else LiveRoom(self.clips, limits.streams)
        self._messages = Counter("pase_live_messages", "Messages of live streams", ["type"], registry=self.registry)
        self._live_seconds = Histogram(
            "pase_live_seconds", "Seconds that the final result of an utterance took", registry=self.registry
        )
        streams = Gauge("pase_streams", "Live streams", registry=self.registry)
        streams.set_function(lambda: 0 if self.room is None else len(self.room))
        self._clip_threads = ThreadPoolExecutor(limits.clips, "clip")
        self._clips_taken = 0
        clips = Gauge("pase_clips", "Clips that are read or wait", registry=self.registry)
        clips.set_function(lambda: self._clips_taken)
        queue = Gauge("pase_queue", "Utterances of features that are predicted or wait", registry=self.registry)
        queue.set_function(lambda: self.batcher.waiting)

    def _predict_batch(self, rows: list[Utterance]) -> list[Prediction]:
        """Predict one batch. Rows are numbered for it, since several requests may use the same ids.

        Each is a video of its own, since utterances of several users are no context of each other.
        """
        inputs = self.inputs
        numbered = [Utterance(str(i), str(i), "", {}, row.features, row.text) for i, row in enumerate(rows)]
        dims = {name: spec.dim for name, spec in inputs.items() if not spec.made}
        schema = Schema(dims, {}, any(spec.text is not None for spec in inputs.values()))
        predictions = list(self.predictor.predict(FeatureTable.build(numbered, schema, meta={TRANSIENT: True})))
        for row, prediction in zip(rows, predictions, strict=True):
            prediction.id = row.id
        return predictions

    async def predict_clip(
        self, upload: UploadFile, text: str | None, explain: bool, options: RecordingOptions | None = None
    ) -> dict[str, Any]:
        """Store an upload, predict it and delete it.

        Args:
            upload: the file; its name is not used, since the content tells its kind.
            text: transcript; recognised if None.
            explain: compute the influence of words and the curve.
            options: who speaks, and in which language.

        Errors:
            PaSEError: the model takes no clips, or the clip cannot be read.
            QueueFull: too many clips wait.
        """
        if self.clips is None:
            raise PaSEError(self.no_clips)
        options = options or RecordingOptions()
        options.check()
        if self._clips_taken >= self.limits.clips + self.limits.waiting:
            raise QueueFull
        self._clips_taken += 1
        try:
            with tempfile.TemporaryDirectory(prefix="pase_") as folder:
                path = Path(folder) / "clip"
                with path.open("wb") as stream:
                    while block := await upload.read(_BLOCK):
                        stream.write(block)
                work = asyncio.get_running_loop().run_in_executor(
                    self._clip_threads, self._predict_file, path, text, explain, options
                )
                try:
                    return await asyncio.shield(work)
                except asyncio.CancelledError:
                    # a thread cannot be stopped: the folder must stay until it has read the clip to its end
                    with contextlib.suppress(Exception):
                        await work
                    raise
        finally:
            self._clips_taken -= 1

    def _predict_file(self, path: Path, text: str | None, explain: bool, options: RecordingOptions) -> dict[str, Any]:
        """Predict a stored upload; sentences name "The clip" and not the server's folder."""
        assert self.clips is not None
        try:
            seconds = duration_of(path)
            if seconds > self.limits.max_seconds:
                raise PaSEError(
                    f"The clip is {seconds:.0f} s long, and this server takes {self.limits.max_seconds:g} s at most; "
                    "cut it."
                )
            return self.clips.predict(path, text, words=explain, name="clip", options=options).to_dict()
        except PaSEError as error:
            raise PaSEError(str(error).replace(str(path), "The clip")) from None

    def observe(self, message: Message) -> None:
        """Count a message of a live stream."""
        self._messages.labels(message["type"]).inc()
        if message["type"] == "final":
            self._live_seconds.observe(message["seconds"])

    async def stop(self) -> None:
        """Cancel what waits, and wait for what runs."""
        if self.room is not None:
            await asyncio.to_thread(self.room.close)
        await self.batcher.stop()
        self._clip_threads.shutdown(wait=True, cancel_futures=True)
