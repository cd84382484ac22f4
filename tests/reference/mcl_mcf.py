"""Pieces of MCL-MCF, one number at a time."""

import math

import numpy as np


def projected(x, matrix, bias):
    """Rows behind a linear map, of unit length."""
    rows = [matrix @ row + bias for row in x]
    return np.array([row / math.sqrt(sum(value**2 for value in row)) for row in rows])


def contrast(x, y, here, temperature):
    """Mean over the rows marked, and over both directions, of the cross-entropy of a row's own partner."""
    rows = [i for i in range(len(x)) if here[i]]
    total = 0.0
    for i in rows:
        own = math.exp(x[i] @ y[i] / temperature)
        total -= math.log(own / sum(math.exp(x[i] @ y[j] / temperature) for j in rows)) / 2
        total -= math.log(own / sum(math.exp(x[j] @ y[i] / temperature) for j in rows)) / 2
    return total / len(rows)


def convolution(images, kernels, biases):
    """Channels [C, S, S] behind kernels [E, C, 3, 3] without padding, and ReLU."""
    size = images.shape[1] - 2
    result = np.zeros((len(kernels), size, size))
    for e in range(len(kernels)):
        for i in range(size):
            for j in range(size):
                value = biases[e]
                for c in range(len(images)):
                    for a in range(3):
                        for b in range(3):
                            value += kernels[e, c, a, b] * images[c, i + a, j + b]
                result[e, i, j] = max(value, 0.0)
    return result


def product_vector(one, two, layers):
    """The outer product of two vectors behind convolutions, (kernels, biases) each, as a vector."""
    images = np.array([[[a * b for b in two] for a in one]])
    for kernels, biases in layers:
        images = convolution(images, kernels, biases)
    return images.flatten()
