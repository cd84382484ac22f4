"""Baselines, models and balancing methods, as their papers write them, one number at a time."""

import math
from itertools import combinations, product

import numpy as np


def outer_product(vectors):
    """Tensor fusion (Zadeh et al. 2017): every product of one entry per modality, of vectors [N, D_m] followed by 1."""
    longer = [np.concatenate([v, np.ones((len(v), 1))], axis=1) for v in vectors]
    rows = []
    for i in range(len(vectors[0])):
        places = product(*(range(v.shape[1]) for v in longer))
        rows.append([math.prod(v[i, j] for v, j in zip(longer, place, strict=True)) for place in places])
    return np.array(rows)


def full_weight(factors):
    """Low-rank fusion (Liu et al. 2018): the weight [prod (D_m + 1), F] that factors [R, D_m + 1, F] stand for."""
    ranks, _, outputs = factors[0].shape
    rows = []
    for place in product(*(range(f.shape[1]) for f in factors)):
        row = np.zeros(outputs)
        for r in range(ranks):
            row += np.prod([f[r, j] for f, j in zip(factors, place, strict=True)], axis=0)
        rows.append(row)
    return np.array(rows)


def adaptive_pool(frames, steps):
    """Frames [T, D] averaged to `steps` frames."""
    count = len(frames)
    pooled = [frames[s * count // steps : math.ceil((s + 1) * count / steps)].mean(0) for s in range(steps)]
    return np.array(pooled)


def ogm_coefficients(truth_a, truth_b, alpha):
    """OGM (Peng et al. 2022) for two modalities: probabilities of the true class alone, [N] each."""
    ratio = truth_a.sum() / truth_b.sum()
    return tuple(1 - math.tanh(alpha * rho) if rho > 1 else 1.0 for rho in (ratio, 1 / ratio))


def mono_modal_responses(logits, players):
    """Shapley values of logits by coalition (a dict of frozensets), nothing being worth zero."""
    k, found = len(players), {}
    worth = {frozenset(): np.zeros_like(next(iter(logits.values()))), **logits}
    for player in players:
        rest = [other for other in players if other != player]
        total = 0.0
        for size in range(k):
            share = math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)
            for group in combinations(rest, size):
                total = total + share * (worth[frozenset({player, *group})] - worth[frozenset(group)])
        found[player] = total
    return found


def agm_coefficients(scores, history, alpha):
    """AGM (Li et al. 2023): scores of this step, and of every step up to and with this one, by modality."""
    result = {}
    for name in scores:
        others = [n for n in scores if n != name]
        now = np.mean([scores[name] - scores[n] for n in others])
        usual = np.mean([np.mean(history[name]) - np.mean(history[n]) for n in others])
        result[name] = math.exp(-alpha * (math.exp(now) - math.exp(usual)))
    return result


def blend(train_before, valid_before, train_after, valid_after):
    """Gradient blending (Wang et al. 2020): weights from losses [M] at both ends."""
    gain = valid_before - valid_after
    overfitting = (valid_after - train_after) - (valid_before - train_before)
    raw = gain / overfitting**2
    return raw / raw.sum()
