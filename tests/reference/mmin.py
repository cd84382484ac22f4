"""The cascade of MMIN and its errors, one row and one number at a time."""

import numpy as np


def layers(row, maps):
    """Affine maps (matrix, bias), with ReLU between them."""
    for number, (matrix, bias) in enumerate(maps):
        row = [sum(matrix[i][j] * row[j] for j in range(len(row))) + bias[i] for i in range(len(bias))]
        if number < len(maps) - 1:
            row = [max(value, 0.0) for value in row]
    return row


def cascade(rows, downs, ups, output):
    """What is imagined, and the bottlenecks side by side; `downs`, `ups` and `output` are lists of affine maps."""
    imagined, codes = [], []
    for row in rows:
        given, code = [], []
        for down, up in zip(downs, ups, strict=True):
            x = [row[j] + sum(out[j] for out in given) for j in range(len(row))]
            bottleneck = layers(x, down)
            code += bottleneck
            given.append(layers(bottleneck, up))
        imagined.append(layers([row[j] + sum(out[j] for out in given) for j in range(len(row))], output))
        codes.append(code)
    return np.array(imagined), np.array(codes)


def slot_error(guess, wanted, where, width):
    """Mean over the slots (row, modality) that count of the mean squared difference over the slot's coordinates."""
    errors = []
    for row in range(len(guess)):
        for slot, counts in enumerate(where[row]):
            if counts:
                places = range(slot * width, (slot + 1) * width)
                errors.append(sum((guess[row][p] - wanted[row][p]) ** 2 for p in places) / width)
    return sum(errors) / len(errors) if errors else 0.0
