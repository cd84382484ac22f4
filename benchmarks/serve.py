"""From a clip to its result, and a server under load.

    python -m benchmarks.serve [RUN] [--seconds 15]

RUN is a run folder whose model reads clips (runs/tryout by default, made by `make media`). Prints seconds by stage for
a clip of about ten seconds and the peak memory. Then, for rising numbers of clients on the loopback, it prints p50, p95
and the statuses of the responses; a client that gets 503 waits a moment and tries again. Twice saturation is twice as
many clients as there may be requests running and waiting.
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
WAITING, QUEUE, ROWS = 2, 64, 4  # clips that may wait, utterances that may wait, utterances per request


def stages(run: Path, clip: Path) -> None:
    """Seconds by stage for one clip, three times after the networks are loaded."""
    began = time.perf_counter()
    predictor = ClipPredictor(run)
    print(f"loaded in {time.perf_counter() - began:.1f} s")
    for which in ("first", "second", "third"):
        began = time.perf_counter()
        result = predictor.predict(clip)
        spent = time.perf_counter() - began
        parts = ", ".join(f"{stage} {value:.2f}" for stage, value in result.seconds.items())
        print(f"{which} time: {result.duration:.1f} s of media in {spent:.2f} s ({parts})")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


async def load(send: Callable[[], Awaitable[int]], clients: int, seconds: float) -> None:
    """Send requests for a while: each client sends the next one when it has the response."""
    statuses: Counter[int] = Counter()
    spent: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            status = await send()
            statuses[status] += 1
            if status == 200:
                spent.append(time.perf_counter() - began)
            else:
                await asyncio.sleep(0.1)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    p50, p95 = np.percentile(spent, [50, 95]) if spent else (np.nan, np.nan)
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    rate = len(spent) / (time.perf_counter() - began)
    print(f"  {clients:4d} clients: p50 {p50:.3f} s, p95 {p95:.3f} s, {rate:.1f} responses/s ({counts})", flush=True)


async def loads(clip: Path, dims: dict[str, int], seconds: float) -> None:
    """Load with clips, then with features."""
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

        print(f"clips, 1 at a time, {WAITING} may wait:")
        for clients in (1, 1 + WAITING, 2 * (1 + WAITING)):
            await load(one_clip, clients, 2 * seconds)
        print(f"features, {ROWS} utterances per request, {QUEUE} may wait:")
        for clients in (1, 4, QUEUE // ROWS, 2 * QUEUE // ROWS):
            await load(features, clients, seconds)


def main() -> None:
    """Run both parts."""
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
