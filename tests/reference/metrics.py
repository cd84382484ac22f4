"""Metric conventions as loops over utterances, for labels in [-3, 3]: slow, plain, and written from the definitions."""

from __future__ import annotations

import math


def naive_weighted_f1(truth, predicted):
    """F1 of each class that occurs on either side, weighted by its share of `truth`."""
    total = 0.0
    for cls in set(truth) | set(predicted):
        hit = sum(1 for t, p in zip(truth, predicted, strict=True) if t == cls and p == cls)
        in_truth = sum(1 for t in truth if t == cls)
        in_predicted = sum(1 for p in predicted if p == cls)
        precision = hit / in_predicted if in_predicted else 0.0
        recall = hit / in_truth if in_truth else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        total += f1 * in_truth / len(truth)
    return total


def naive_pearson(x, y):
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    variance_x = sum((a - mean_x) ** 2 for a in x)
    variance_y = sum((b - mean_y) ** 2 for b in y)
    return covariance / math.sqrt(variance_x * variance_y) if variance_x and variance_y else 0.0


def naive_regression(score, labels, convention="mmsa"):
    def clipped_class(value, limit):
        return round(min(max(value, -limit), limit))  # Python rounds half to even

    if convention == "mult":
        with_zeros = [(p > 0, t > 0) for p, t in zip(score, labels, strict=True)]
    else:
        with_zeros = [(p >= 0, t >= 0) for p, t in zip(score, labels, strict=True)]
    without = [(p > 0, t > 0) for p, t in zip(score, labels, strict=True) if t != 0]

    def accuracy(pairs):
        return sum(p == t for p, t in pairs) / len(pairs) if pairs else math.nan

    def f1(pairs):
        if not pairs:
            return math.nan
        predicted, truth = [p for p, _ in pairs], [t for _, t in pairs]
        return naive_weighted_f1(predicted, truth) if convention == "mult" else naive_weighted_f1(truth, predicted)

    counted = [(p, t) for p, t in zip(score, labels, strict=True) if t != 0 or convention != "pase"]
    pairs = list(zip(score, labels, strict=True))
    return {
        "acc2_nonneg": accuracy(with_zeros),
        "acc2_negpos": accuracy(without),
        "f1_nonneg": f1(with_zeros),
        "f1_negpos": f1(without),
        "acc7": sum(clipped_class(p, 3) == clipped_class(t, 3) for p, t in pairs) / len(pairs),
        "acc5": sum(clipped_class(p, 2) == clipped_class(t, 2) for p, t in pairs) / len(pairs),
        "mae": sum(abs(p - t) for p, t in counted) / len(counted) if counted else math.nan,
        "corr": naive_pearson(*zip(*counted, strict=True)) if counted else math.nan,
    }


def naive_classification(predicted, labels, classes):
    pairs = list(zip(predicted, labels, strict=True))
    recalls, f1s, per_class = [], [], {}
    for k, name in enumerate(classes):
        support = sum(t == k for _, t in pairs)
        hit = sum(p == k and t == k for p, t in pairs)
        claimed = sum(p == k for p, _ in pairs)
        recall = hit / support if support else math.nan
        if support:
            recalls.append(recall)
        if support or claimed:
            f1s.append(2 * hit / (support + claimed))
        per_class[name] = {
            "f1": naive_weighted_f1([t == k for _, t in pairs], [p == k for p, _ in pairs]),
            "accuracy": sum((p == k) == (t == k) for p, t in pairs) / len(pairs),
            "recall": recall,
            "support": support,
        }
    accuracy = sum(p == t for p, t in pairs) / len(pairs)
    return {
        "accuracy": accuracy,
        "wa": accuracy,
        "ua": sum(recalls) / len(recalls),
        "f1_weighted": naive_weighted_f1(list(labels), list(predicted)),
        "f1_macro": sum(f1s) / len(f1s),
        "per_class": per_class,
    }
