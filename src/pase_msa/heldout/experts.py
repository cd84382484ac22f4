"""The reference model as something that predicts: what a trained model keeps of the diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from pase_msa.heldout.ridge import Pooling, Predictions, Reference
from pase_msa.objective import task_losses
from pase_msa.task import Task

Array = NDArray[np.float64]
_LEAST = 0.02  # a coalition with a smaller weight is not kept
_MOST = 8
_UNSEEN = -20.0  # logit of a class without an example


@dataclass(frozen=True)
class Expert:
    """The reference with one coalition.

    Attributes:
        coalition: its members.
        weight: share of the reference's prediction, in (0, 1].
        weights: of the members' components, in the order of the modalities, then of the Fourier features and of the
            products, [d, o].
        joint_mean: training mean of the Fourier features and of the products, [f].
        slopes: of the class logits over the predicted targets, [o, k].
        intercepts: of the class logits, [k].
    """

    coalition: frozenset[str]
    weight: float
    weights: Array
    joint_mean: Array
    slopes: Array
    intercepts: Array


@dataclass(frozen=True)
class Experts:
    """The reference with its most trusted coalitions.

    Attributes:
        poolings: by modality.
        matrices: projections to components by modality, [p, c].
        waves: frequencies of the Fourier features by modality, [c, f].
        offset: their phases, [f].
        leads: projections to the components whose products are taken, by modality, [p, q].
        members: one a coalition.
        prior: class frequencies of the training labels, [k].
    """

    poolings: dict[str, Pooling]
    matrices: dict[str, Array]
    waves: dict[str, Array]
    offset: Array
    leads: dict[str, Array]
    members: list[Expert]
    prior: Array


def make_experts(
    task: Task,
    reference: Reference,
    poolings: Mapping[str, Pooling],
    weights: Mapping[frozenset[str], float],
    targets: Array,
    labels: Array,
) -> Experts | None:
    """The reference's most trusted coalitions, or None where it trusts none.

    Args:
        task: what is predicted.
        reference: solved for any coalition.
        poolings: how its features were made.
        weights: trust by coalition.
        targets: of the training rows, [n, o].
        labels: the same as scores or class numbers, [n].
    """
    heaviest = sorted((item for item in weights.items() if item[0] and item[1] > _LEAST), key=lambda item: -item[1])
    total = sum(weight for _, weight in heaviest[:_MOST])
    members = []
    for coalition, weight in heaviest[:_MOST]:
        said: Predictions = reference.predict([name for name in poolings if name in coalition])
        slopes, intercepts = _calibrate(task, said.grouped, labels)
        members.append(Expert(coalition, weight / total, said.weights, said.joint_mean, slopes, intercepts))
    if not members:
        return None
    return Experts(
        dict(poolings),
        {name: matrix.numpy() for name, matrix in reference.matrices.items()},
        {name: waves.numpy() for name, waves in reference.waves.items()},
        reference.offset.numpy(),
        {name: matrix.numpy() for name, matrix in reference.leads.items()},
        members,
        task.frequencies(torch.from_numpy(labels)).numpy(),
    )


def _calibrate(task: Task, said: Array, labels: Array) -> tuple[Array, Array]:
    """Class logits of what is predicted out of fold: slopes [o, k] and intercepts [k].

    They are fitted by the objective that a network has (eq. 16 and the absolute error of the score), so that the two
    can be mixed: a least-squares prediction is a mean, and where ratings crowd at both ends the score that errs least
    is not. The shape of the labels' distribution is learned with it.
    """
    scale = max(float(said.std()), 1e-12)
    given, truth = torch.from_numpy(said / scale), torch.from_numpy(labels).double()
    membership = task.membership(truth).double()
    size = said.shape[1] * task.num_classes

    def objective(values: Array) -> tuple[float, Array]:
        parameters = torch.tensor(values, requires_grad=True)
        slopes, intercepts = parameters[:size].view(said.shape[1], -1), parameters[size:]
        logits = given @ slopes + intercepts
        score = task.score(logits.softmax(1)) if task.values is not None else None
        losses = task_losses(logits, score, truth, membership)
        loss = torch.stack([*losses.values(), slopes.square().sum() / (2 * len(given))]).sum()
        return loss.item(), torch.autograd.grad(loss, parameters)[0].numpy()

    frequencies = membership.mean(0).log().clamp(min=_UNSEEN).numpy()
    found = minimize(objective, np.r_[np.zeros(size), frequencies], jac=True, method="L-BFGS-B").x
    return found[:size].reshape(said.shape[1], -1) / scale, found[size:]
