"""Entropic transport of a few small pairs, next to POT: `python -m benchmarks.transport [--json]`.

One thread; medians. "Warm" continues from the potentials of a cost a small step away, as in training. The
error is the largest of any row or column sum: POT runs once with a usual budget of sweeps, and once for as
long as it takes to reach our tolerance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable

import ot
import torch
from torch import Tensor

from pase_msa.transport import Marginals, entropic_plan


def costs(pairs: int, classes: int, step: float) -> tuple[Tensor, Tensor]:
    """Squared distances between random unit prototypes, and the same after a small step."""
    generator = torch.Generator().manual_seed(0)
    first, second, change = torch.randn(3, pairs, classes, 64, generator=generator, dtype=torch.float64)

    def cost(moved: Tensor) -> Tensor:
        a, b = (torch.nn.functional.normalize(x, dim=-1) for x in (moved, second))
        return torch.cdist(a, b).square()

    return cost(first), cost(first + step * change)


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of a call, after some that do not count."""
    for _ in range(repeats // 10):
        run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def measure(pairs: int, classes: int, regularization: float, repeats: int) -> dict[str, dict[str, float]]:
    """Name -> median milliseconds and, with balanced marginals, the largest error of a row or column sum."""
    before, cost = costs(pairs, classes, step=1e-3)
    cost.requires_grad_()
    plain = cost.detach()
    mass = torch.ones(pairs, classes, dtype=plain.dtype)
    weight = torch.randn(cost.shape, generator=torch.Generator().manual_seed(1), dtype=cost.dtype)

    def ours(marginals: Marginals, warm: bool, gradient: bool) -> Callable[[], Tensor]:
        start = entropic_plan(before, regularization, marginals).potentials if warm else None

        def run() -> Tensor:
            plan = entropic_plan(cost, regularization, marginals, potentials=start).plan
            if gradient:
                torch.autograd.grad((plan * weight).sum(), cost)
            return plan

        return run

    def batch(sweeps: int, gradient: bool = False) -> Callable[[], Tensor]:
        def run() -> Tensor:
            source, mode = (cost, "autodiff") if gradient else (plain, "detach")
            solved = ot.solve_batch(source, regularization, mass, mass, max_iter=sweeps, tol=1e-6, grad=mode)
            plan: Tensor = solved.plan
            if gradient:
                torch.autograd.grad((plan * weight).sum(), cost)
            return plan

        return run

    def single(sweeps: int) -> Callable[[], Tensor]:
        options = {"method": "sinkhorn_log", "numItermax": sweeps, "stopThr": 1e-6}
        return lambda: torch.stack([ot.sinkhorn(mass[0], mass[0], c, regularization, **options) for c in plain])

    rows: dict[str, tuple[Callable[[], Tensor], int]] = {
        "ours, cold": (ours("balanced", warm=False, gradient=False), repeats),
        "ours, cold, with gradient": (ours("balanced", warm=False, gradient=True), repeats),
        "ours, warm": (ours("balanced", warm=True, gradient=False), repeats),
        "ours, warm, with gradient": (ours("balanced", warm=True, gradient=True), repeats),
        "ours, source, cold, with gradient": (ours("source", warm=False, gradient=True), repeats),
        "ours, source, warm, with gradient": (ours("source", warm=True, gradient=True), repeats),
        "POT solve_batch, 100 sweeps": (batch(100), max(5, repeats // 10)),
        "POT solve_batch, 100, with gradient": (batch(100, gradient=True), max(5, repeats // 10)),
        f"POT {pairs}x sinkhorn_log, 100 sweeps": (single(100), max(5, repeats // 10)),
        "POT solve_batch, to 1e-6": (batch(100_000), 1),
        f"POT {pairs}x sinkhorn_log, to 1e-6": (single(100_000), 1),
    }
    table: dict[str, dict[str, float]] = {}
    for name, (run, times) in rows.items():
        plan = run().detach()
        table[name] = {"ms": median_ms(run, times)}
        if "source" not in name:
            table[name]["error"] = max(float((plan.sum(dim) - 1).abs().max()) for dim in (-1, -2))
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--regularization", type=float, default=0.01)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # POT warns where it stops short; the error column says by how much
    table = measure(options.pairs, options.classes, options.regularization, options.repeats)
    if options.json:
        print(json.dumps({"setting": vars(options), "results": table}))
        return
    setting = f"{options.pairs} pairs, K = {options.classes}, lambda = {options.regularization:g}"
    print(f"{setting}, float64, one thread, median ms and error")
    for name, row in table.items():
        error = f"{row['error']:10.1e}" if "error" in row else ""
        print(f"{name:38}{row['ms']:10.3f} ms{error}")


if __name__ == "__main__":
    main()
