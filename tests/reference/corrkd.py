"""The losses of CorrKD, one pair, class and row at a time."""

import numpy as np


def sample_contrast(student, teacher, here, margin):
    """Mean over pairs i != j of the squared distance of i's own vectors plus the squared shortfall of the margin."""
    values = []
    for i in range(len(student)):
        for j in range(len(student)):
            if i != j and here[i] and here[j]:
                near = np.sum((student[i] - teacher[i]) ** 2)
                far = np.linalg.norm(student[i] - teacher[j])
                values.append(near + max(0.0, margin - far) ** 2)
    return sum(values) / len(values)


def class_similarities(vectors, membership):
    """Cosines with the weighted class means; None for a class without weight."""
    table = []
    for vector in vectors:
        row = []
        for k in range(membership.shape[1]):
            total = membership[:, k].sum()
            if total == 0:
                row.append(None)
                continue
            mean = sum(membership[i, k] * vectors[i] for i in range(len(vectors))) / total
            row.append(float(vector @ mean / (np.linalg.norm(vector) * np.linalg.norm(mean))))
        table.append(row)
    return table


def divergence(p, q):
    """KL(p || q)."""
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


def decoupled_divergence(student, teacher, target):
    """Of teacher and student on (target, rest), and on the rest among themselves; one number per row."""
    values = []
    for s, t, y in zip(student, teacher, target, strict=True):
        q, p = np.exp(s) / np.exp(s).sum(), np.exp(t) / np.exp(t).sum()
        total = divergence([p[y], 1 - p[y]], [q[y], 1 - q[y]])
        others = [k for k in range(len(p)) if k != y]
        values.append(total + divergence([p[k] / (1 - p[y]) for k in others], [q[k] / (1 - q[y]) for k in others]))
    return np.array(values)
