"""Uni-modal teachers (Du et al. 2023), one number at a time."""


def distillation(vectors, targets, present, weight):
    """weight times the sum over modalities of the mean squared entry, over the utterances that have the modality.

    Args:
        vectors: by modality, [N, D].
        targets: of the teachers, by modality, [N, D].
        present: by modality, [N].
        weight: of the sum.
    """
    total = 0.0
    for name, flags in present.items():
        squares, count = 0.0, 0
        for n, flag in enumerate(flags):
            if flag:
                for one, other in zip(vectors[name][n], targets[name][n], strict=True):
                    squares += (one - other) ** 2
                    count += 1
        total += squares / count if count else 0.0
    return weight * total
