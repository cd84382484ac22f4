"""Shapley values of any utility over coalitions (PaSE, eq. 18; Shapley 1953)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import overload

import numpy as np
import torch
from jaxtyping import Float, Real
from numpy.typing import NDArray
from torch import Tensor

from pase_msa.errors import PaSEError

_EXACT_PLAYERS = 10
_EXACT_ATTRIBUTION = 8  # players; with more, coalitions are sampled where each is computed for every utterance
_PERMUTATIONS = 64

Utility = Callable[[frozenset[str]], float]


class ShapleyValues(dict[str, float]):
    """Player -> Shapley value, in the unit of the utility.

    Attributes:
        standard_errors: player -> standard error of its value; zero where the values are exact.
        exact: whether all coalitions were enumerated.
    """

    def __init__(self, values: Mapping[str, float], standard_errors: Mapping[str, float], exact: bool) -> None:
        super().__init__(values)
        self.standard_errors = dict(standard_errors)
        self.exact = exact


def shapley_values(
    utility: Utility, players: Sequence[str], *, permutations: int = 2000, seed: int = 0
) -> ShapleyValues:
    """Each player's average marginal contribution to the utility (PaSE, eq. 18).

    Up to ten players the utility of every non-empty coalition is computed exactly once. With more, the average
    runs over random orders, each with its reverse (antithetic). No utility is computed twice, and standard errors
    are given. The values sum to the utility of all players either way.

    Args:
        utility: coalition -> value. The empty coalition counts as 0 and is never computed: shift the utility
            so that 0 means "no player".
        players: distinct names.
        permutations: how many orders to draw, at least 4, rounded up to an even number; beyond ten players
            only.
        seed: of those draws, which touch no global generator.

    Raises:
        PaSEError: no players, a name twice, too few permutations, or a utility that is NaN or infinite.
    """
    if not players or len(set(players)) != len(players):
        raise PaSEError(
            f"Shapley values need one or more distinct players and {list(players)} was found: name each once."
        )

    def value(mask: int) -> float:
        coalition = _members(mask, players)
        result = float(utility(coalition))
        if not math.isfinite(result):
            names = ", ".join(name for name in players if name in coalition)
            raise PaSEError(f"a utility must be finite, and that of {{{names}}} is {result}: mend the utility.")
        return result

    if len(players) <= _EXACT_PLAYERS:
        values = np.array([0.0, *(value(mask) for mask in range(1, 2 ** len(players)))])
        exact = _weights(len(players)) @ values
        return ShapleyValues(dict(zip(players, exact.tolist(), strict=True)), dict.fromkeys(players, 0.0), exact=True)
    if permutations < 4:
        raise PaSEError(f"sampling needs at least 4 permutations and {permutations} was found: take 2000 or so.")
    sampled = _sample(value, len(players), math.ceil(permutations / 2), random.Random(seed))
    errors = sampled.std(0, ddof=1) / math.sqrt(len(sampled))
    return ShapleyValues(
        dict(zip(players, sampled.mean(0).tolist(), strict=True)),
        dict(zip(players, errors.tolist(), strict=True)),
        exact=False,
    )


def coalitions(players: Sequence[str]) -> list[frozenset[str]]:
    """All 2^k coalitions in bitmask order: number `n` holds player `i` where bit `i` of `n` is set."""
    return [_members(mask, players) for mask in range(2 ** len(players))]


@lru_cache(maxsize=8)
def attribution(
    players: tuple[str, ...], permutations: int = _PERMUTATIONS
) -> tuple[tuple[frozenset[str], ...], NDArray[np.float64]]:
    """C coalitions, and the matrix [k, C] that maps their values to Shapley values.

    The empty coalition comes first and that of all players last.

    The map is exact for up to 8 players, else by antithetic permutations, an even number of them.
    """
    count = len(players)
    if count <= _EXACT_ATTRIBUTION:
        return tuple(coalitions(players)), shapley_from_coalitions(np.eye(2**count), count)
    generator = random.Random(0)
    number = {frozenset[str](): 0}
    terms: list[tuple[int, int, int]] = []
    for _ in range(permutations // 2):
        order = generator.sample(range(count), count)
        for permutation in (order, order[::-1]):
            members: frozenset[str] = frozenset()
            for player in permutation:
                joined = members | {players[player]}
                terms.append((player, number.setdefault(joined, len(number)), number[members]))
                members = joined
    chosen = sorted(number, key=lambda coalition: (len(coalition) == count, number[coalition]))
    place = {number[coalition]: i for i, coalition in enumerate(chosen)}
    matrix = np.zeros((count, len(chosen)))
    for player, with_player, without in terms:
        matrix[player, place[with_player]] += 1 / permutations
        matrix[player, place[without]] -= 1 / permutations
    return tuple(chosen), matrix


@overload
def shapley_from_coalitions(values: Tensor, players: int) -> Tensor: ...
@overload
def shapley_from_coalitions(values: NDArray[np.floating], players: int) -> NDArray[np.float64]: ...
def shapley_from_coalitions(
    values: Real[Tensor, "coalitions ..."] | Real[NDArray[np.floating], "coalitions ..."], players: int
) -> Float[Tensor, "players ..."] | Float[NDArray[np.float64], "players ..."]:
    """Shapley values from the utilities of all coalitions, for any number of utilities at once (PaSE, eq. 18).

    A linear map, so a tensor's gradient passes through it. Row 0, the empty coalition, is subtracted from the
    others: the values of a utility sum to its last row minus its first.

    Args:
        values: `[2^k, ...]` in the order of `coalitions`, finite; tensor or array.
        players: k >= 1.

    Returns:
        `[k, ...]`, of the same kind and unit.

    Raises:
        PaSEError: the first axis is not 2^k long, or a value is NaN or infinite.
    """
    if players < 1 or values.ndim < 1 or values.shape[0] != 2**players:
        raise PaSEError(
            f"{players} players need 2^{players} coalition values along the first axis, and the shape "
            f"{list(values.shape)} was found: pass one row per coalition, the empty one first."
        )
    finite = torch.isfinite(values).all() if isinstance(values, Tensor) else np.isfinite(values).all()
    if not bool(finite):
        raise PaSEError("coalition values must be finite, and NaN or infinity was found: mend the utility.")
    weights = _weights(players)
    if isinstance(values, Tensor):
        kind = values.dtype if values.is_floating_point() else torch.float32
        matrix = torch.tensor(weights, dtype=kind, device=values.device)
        return (matrix @ values.to(kind).reshape(len(values), -1)).view(players, *values.shape[1:])
    result: NDArray[np.float64] = np.tensordot(weights, values, axes=1)
    return result


@lru_cache(maxsize=16)
def _weights(players: int) -> Float[NDArray[np.float64], "players coalitions"]:
    """Eq. 18 as a matrix: `|S|! (k - |S| - 1)! / k!`, plus at S with the player, minus at S without."""
    share = np.array([1.0 / (players * math.comb(players - 1, size)) for size in range(players)])
    masks = np.arange(2**players)
    member = (masks >> np.arange(players)[:, None] & 1).astype(bool)  # [k, 2^k]
    size = member.sum(0)
    matrix: NDArray[np.float64] = np.where(member, share[size - 1], -share[np.minimum(size, players - 1)])
    matrix.setflags(write=False)
    return matrix


def _sample(
    value: Callable[[int], float], players: int, pairs: int, generator: random.Random
) -> Float[NDArray[np.float64], "pairs players"]:
    """Marginal contributions, averaged over an order and its reverse, for each of some random orders."""
    values = {0: 0.0}
    order = list(range(players))
    result = np.zeros((pairs, players))
    for row in result:
        generator.shuffle(order)
        for direction in (order, order[::-1]):
            mask, before = 0, 0.0
            for player in direction:
                mask |= 1 << player
                if mask not in values:
                    values[mask] = value(mask)
                row[player] += (values[mask] - before) / 2
                before = values[mask]
    return result


def _members(mask: int, players: Sequence[str]) -> frozenset[str]:
    return frozenset(name for bit, name in enumerate(players) if mask >> bit & 1)
