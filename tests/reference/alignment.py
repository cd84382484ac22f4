"""Eq. 4-9 of PaSE as they are printed, one pair and one direction at a time."""

import math

import numpy as np

from tests.reference.transport import sinkhorn


def alignment(prototypes, regularization, consistency, structure, relaxation=math.inf):
    """Loss of a mapping name -> [K, D]; a finite `relaxation` frees the target marginal of each direction."""
    names = list(prototypes)
    total = 0.0
    for i, m in enumerate(names):
        for n in names[i + 1 :]:
            first, second = prototypes[m], prototypes[n]
            classes = len(first)
            cost = np.zeros((classes, classes))
            for k in range(classes):
                for j in range(classes):
                    a = first[k] / math.sqrt(sum(first[k] ** 2))
                    b = second[j] / math.sqrt(sum(second[j] ** 2))
                    cost[k, j] = sum((a - b) ** 2)
            forth = sinkhorn(cost, regularization, relaxation)
            back = sinkhorn(cost.T, regularization, relaxation)
            match = 0.5 * ((forth * cost).sum() + (back * cost.T).sum()) / classes
            disagreement = ((forth - back.T) ** 2).sum()
            identity = np.eye(classes)
            distance = 0.5 * (((forth - identity) ** 2).sum() + ((back - identity) ** 2).sum())
            total += match + consistency * disagreement + structure * distance
    return total
