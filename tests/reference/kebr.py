"""KEBR: the similarity constraint and the fusion of one utterance, one number at a time."""

import math

import numpy as np

from tests.reference.systems import layer_norm


def constraint(similarities, target):
    """The loss of one utterance, from its cosines with the other modalities."""
    if any(s < 0 for s in similarities):
        return 1 + sum(abs(s) for s in similarities)
    mean = sum(similarities) / len(similarities)
    spread = max(similarities) - min(similarities)
    return abs(math.cos(math.pi * (mean + 0.5 - target) * math.exp(0.5 * spread)))


def linear(vector, maps):
    """A matrix and a bias."""
    matrix, bias = maps
    return matrix @ vector + bias


def cross_attention(states, frames, maps):
    """What each state [T, D] takes from the valid frames [S, D]; maps are "query", "key", "value" and "output"."""
    taken = np.zeros_like(states)
    for t, state in enumerate(states):
        query = linear(layer_norm(state), maps["query"])
        weights = [math.exp(query @ linear(layer_norm(f), maps["key"]) / math.sqrt(len(query))) for f in frames]
        values = [linear(layer_norm(f), maps["value"]) for f in frames]
        mixed = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        taken[t] = linear(mixed, maps["output"])
    return taken


def fused(states, sides, mix, passes):
    """The mean of the anchor's states after `passes` applications of one layer, and its cosines with the sides.

    Args:
        states: valid frames of the anchor, [T, D].
        sides: pairs of the valid frames [S, D] and the maps of each other modality.
        mix: matrix and bias of F.
        passes: how often the layer is applied.
    """
    for _ in range(passes):
        given = [cross_attention(states, frames, maps) for frames, maps in sides]
        states = states + sum(given)
        states = np.array([state + linear(layer_norm(state), mix) for state in states])
    mean = states.mean(0)
    cosines = []
    for frames, _ in sides:
        side = np.mean([layer_norm(frame) for frame in frames], axis=0)
        cosines.append(mean @ side / (np.linalg.norm(mean) * np.linalg.norm(side)))
    return mean, cosines
