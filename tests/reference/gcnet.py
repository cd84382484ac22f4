"""Pieces of GCNet, one utterance and one neighbour at a time."""

import numpy as np


def places(videos, rows):
    """Place of each utterance in its video, by counting those before it."""
    return [sum(videos[j] == videos[i] and rows[j] < rows[i] for j in range(len(videos))) for i in range(len(videos))]


def temporal_edges(videos, rows, past, future):
    """(i, j) -> "past", "now" or "future", for every j that i has an edge from."""
    place, result = places(videos, rows), {}
    for i in range(len(videos)):
        for j in range(len(videos)):
            offset = place[j] - place[i]
            if videos[i] == videos[j] and -past <= offset <= future:
                result[i, j] = "past" if offset < 0 else "now" if offset == 0 else "future"
    return result


def speaker_edges(edges, speakers):
    """(i, j) -> "same" or "other"; -1 is an unknown speaker, who counts as the same."""
    return {
        (i, j): "other" if speakers[i] != speakers[j] and -1 not in (speakers[i], speakers[j]) else "same"
        for i, j in edges
    }


def relational_graph(inputs, edges, weights, relations):
    """B from U.

    Args:
        inputs: U, [N, F].
        edges: (i, j) -> name of the relation.
        weights: "root", "root_bias", "own", "own_bias", "neighbours".
        relations: matrix of each relation, by name.
    """
    first = []
    for i, row in enumerate(inputs):
        value = weights["root"] @ row + weights["root_bias"]
        for name, matrix in relations.items():
            messages = [matrix @ inputs[b] for (a, b), kind in edges.items() if a == i and kind == name]
            if messages:
                value = value + sum(messages) / len(messages)
        first.append(value)
    second = []
    for i, row in enumerate(first):
        value = weights["own"] @ row + weights["own_bias"]
        for a, b in edges:
            if a == i:
                value = value + weights["neighbours"] @ first[b]
        second.append(value)
    return np.array(second)


def reconstruction(completed, features, hidden):
    """L_rec; each argument by modality: [N, d], [N, d], and whether the modality is hidden, [N]."""
    count, total = len(next(iter(hidden.values()))), 0.0
    for name, flags in hidden.items():
        for i in range(count):
            if flags[i]:
                difference = completed[name][i] - features[name][i]
                total += sum(value**2 for value in difference) / len(difference)
    return total / count
