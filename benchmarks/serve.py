"""The time from a clip to a result, and a server under load.

    python -m benchmarks.serve [RUN] [--seconds 15]

RUN is a run folder whose model predicts for clips (runs/tryout by default, made by `make media`). Prints seconds by
stage for a clip of about ten seconds, and the peak memory. Then, for rising numbers of clients on the loopback: median
and 95th percentile of the response time, and the status codes. A client whose request is refused (503) waits a moment
before the next one. The largest number of clients is twice that of the requests that can run and wait.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import numpy as np
import torch

from benchmarks.extract import example
from pase_msa.serve.clips import ClipPredictor

PORT = 8765
WAITING, QUEUE, ROWS = 2, 64, 4  # clips that can wait, utterances that can wait, utterances per request


def stages(run: Path, clip: Path) -> None:
    """Print seconds by stage for one clip, and the time that loading takes."""
    began = time.perf_counter()
    predictor = ClipPredictor(run)
    print(f"loaded in {time.perf_counter() - began:.1f} s")
    for which in ("first", "second", "third"):
        began = time.perf_counter()
        answer = predictor.predict(clip)
        spent = time.perf_counter() - began
        parts = ", ".join(f"{stage} {value:.2f}" for stage, value in answer.seconds.items())
        print(f"{which} time: {answer.duration:.1f} s of media in {spent:.2f} s ({parts})")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


async def load(ask: Callable[[], Awaitable[int]], clients: int, seconds: float) -> None:
    """Let clients send one request after another for some seconds, and print the response times."""
    statuses: Counter[int] = Counter()
    spent: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            status = await ask()
            statuses[status] += 1
            if status == 200:
                spent.append(time.perf_counter() - began)
            else:
                await asyncio.sleep(0.1)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    p50, p95 = np.percentile(spent, [50, 95]) if spent else (np.nan, np.nan)
    told = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    rate = len(spent) / (time.perf_counter() - began)
    print(f"  {clients:4d} clients: p50 {p50:.3f} s, p95 {p95:.3f} s, {rate:.1f} responses/s ({told})", flush=True)


async def loads(clip: Path, dims: dict[str, int], seconds: float) -> None:
    """Load the server with clips, then with features."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{PORT}", timeout=600, limits=limits) as http:
        content = clip.read_bytes()

        async def one_clip() -> int:
            return (await http.post("/predict/clip", files={"file": ("clip", content)})).status_code

        rng = np.random.default_rng(0)
        rows = [
            {
                "id": str(i),
                "features": {name: rng.normal(size=(12, dim)).round(4).tolist() for name, dim in dims.items()},
            }
            for i in range(ROWS)
        ]

        async def features() -> int:
            return (await http.post("/predict/features", json={"utterances": rows})).status_code

        print(f"clips, 1 at a time, {WAITING} can wait:")
        for clients in (1, 1 + WAITING, 2 * (1 + WAITING)):
            await load(one_clip, clients, 2 * seconds)
        print(f"features, {ROWS} utterances per request, {QUEUE} can wait:")
        for clients in (1, 4, QUEUE // ROWS, 2 * QUEUE // ROWS):
            await load(features, clients, seconds)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/tryout"))
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--only", choices=["stages", "load"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        clip = example(Path(name) / "clip.mp4")
        if options.only != "load":
            stages(options.run, clip)
        if options.only == "stages":
            return
        limits = ["--waiting", str(WAITING), "--queue", str(QUEUE), "--port", str(PORT)]
        command = [sys.executable, "-m", "pase_msa", "serve", str(options.run), *limits]
        server = subprocess.Popen(command)
        try:
            health = {}
            for _ in range(240):
                time.sleep(0.5)
                try:
                    health = httpx.get(f"http://127.0.0.1:{PORT}/health").json()
                    break
                except httpx.TransportError:
                    continue
            from pase_msa.models.base import Model

            inputs = Model.from_pretrained(options.run / "model").inputs
            dims = {key: spec.dim for key, spec in inputs.items() if key in health["modalities"]}
            asyncio.run(loads(clip, dims, options.seconds))
            memory = Path(f"/proc/{server.pid}/status")
            if memory.is_file():
                peak = next(line for line in memory.read_text().splitlines() if line.startswith("VmHWM"))
                print(f"peak memory of the server: {int(peak.split()[1]) / 2**20:.2f} GiB")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
