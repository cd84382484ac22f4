"""Pieces of the systems that the paper compares with, as their papers write them, one number at a time."""

import math

import numpy as np


def moment_discrepancy(x, y, moments=5):
    """CMD (Zellinger et al. 2017) of samples in [0, 1]."""
    total = np.linalg.norm(x.mean(0) - y.mean(0))
    for order in range(2, moments + 1):
        total += np.linalg.norm(((x - x.mean(0)) ** order).mean(0) - ((y - y.mean(0)) ** order).mean(0))
    return total


def orthogonality(a, b):
    """MISA: mean squared entry of A^T B, columns centred and rows of unit length."""
    a, b = (part - part.mean(0) for part in (a, b))
    a, b = ([row / (np.linalg.norm(row) + 1e-6) for row in part] for part in (a, b))
    dim = len(a[0])
    entries = [sum(a[i][p] * b[i][q] for i in range(len(a))) ** 2 for p in range(dim) for q in range(dim)]
    return sum(entries) / dim**2


def ratio_loss(anchors, others, same, target):
    """HyCon: per anchor, mean (s - target)^2 over positives less the ratio of sums; over the anchors with positives."""
    values = []
    for i in range(len(anchors)):
        rest = [j for j in range(len(others)) if j != i]
        positives = [j for j in rest if same[i][j]]
        if positives:
            s = {j: float(anchors[i] @ others[j]) for j in rest}
            pulled = sum((s[j] - target) ** 2 for j in positives) / len(positives)
            values.append(pulled - sum(s[j] for j in positives) / sum(s.values()))
    return sum(values) / len(values)


def relative_distance(now, stored, labels):
    """Self-MM: d(s) of features against the centres of stored features by the sign of the labels."""
    positive, negative = stored[labels > 0].mean(0), stored[labels < 0].mean(0)
    result = []
    for feature in now:
        near, far = np.linalg.norm(feature - positive), np.linalg.norm(feature - negative)
        result.append((far - near) / (near + 1e-8))
    return np.array(result)


def pseudo_label(labels, own, fused, half_range):
    """Self-MM: half by the ratio and half by the difference of the distances, within the range."""
    result = []
    for y, s, m in zip(labels, own, fused, strict=True):
        value = 0.5 * y * s / (m + 1e-8) + 0.5 * (y + s - m)
        result.append(min(max(value, -half_range), half_range) if math.isfinite(value) else y)
    return np.array(result)


def attention(queries, keys, values, lengths):
    """Scaled dot-product attention of one head, [N, T, D] on the first `lengths` steps of [N, S, D]."""
    out = np.zeros((len(queries), queries.shape[1], values.shape[2]))
    for n, length in enumerate(lengths):
        for t, query in enumerate(queries[n]):
            if length:
                scores = np.array([query @ key for key in keys[n, :length]]) / np.sqrt(len(query))
                weights = np.exp(scores - scores.max())
                out[n, t] = (weights / weights.sum()) @ values[n, :length]
    return out


def layer_norm(frames, epsilon=1e-5):
    """Frames of mean 0 and variance 1."""
    centred = frames - frames.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)


def crossmodal_layer(target, source, lengths, weights):
    """A layer of MulT: attention of the target to the source, both normed, and a feed-forward part, each added.

    Args:
        target: frames [N, T, D].
        source: frames [N, S, D].
        lengths: valid frames of the source, [N].
        weights: matrices "q", "k", "v", "o" [D, D], "expand" [4D, D], "reduce" [D, 4D], and their biases, "q_bias" ...
    """

    def linear(frames, name):
        return frames @ weights[name].T + weights[f"{name}_bias"]

    normed = layer_norm(source)
    given = attention(linear(layer_norm(target), "q"), linear(normed, "k"), linear(normed, "v"), lengths)
    there = (np.asarray(lengths) > 0).reshape(-1, 1, 1)
    target = target + linear(given, "o") * there
    return target + linear(np.maximum(linear(layer_norm(target), "expand"), 0), "reduce")


def adaptation_gate(states, frames, gates, shifts, beta):
    """MAG: layer norm of states [T, H] that frames [T, d] shift, by modality; gates and shifts are (matrix, bias)."""
    rows = []
    for t, state in enumerate(states):
        shift = np.zeros_like(state)
        for name, part in frames.items():
            (gate, gate_bias), (move, move_bias) = gates[name], shifts[name]
            opened = np.maximum(gate @ np.concatenate([part[t], state]) + gate_bias, 0)
            shift = shift + opened * (move @ part[t] + move_bias)
        length = np.linalg.norm(shift) or 1.0
        rows.append(state + min(beta * np.linalg.norm(state) / (length + 1e-6), 1.0) * shift)
    return layer_norm(np.array(rows))
