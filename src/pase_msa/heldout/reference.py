"""The closed-form reference: what a trained model keeps of the diagnosis, and predicts with.

It is a mixture of the ridge regressions (see `ridge`) of the coalitions with the largest weights. Each regression
predicts centred targets; a linear map with a softmax turns them into class probabilities:

    p = sum_S w_S softmax(x_S W_S A_S + b_S),

with x_S the features of the coalition S, W_S its ridge weights, A_S and b_S the map, and w_S its weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from pase_msa.batch import Batch
from pase_msa.encoders.layout import step_mask
from pase_msa.heldout.features import FOURIER, fourier_features, products
from pase_msa.heldout.pooling import CLIP, Pooling
from pase_msa.heldout.presence import pattern_rows, stacked_presence
from pase_msa.heldout.ridge import RidgeSolver
from pase_msa.heldout.weights import MOST_COALITIONS
from pase_msa.objective import task_losses
from pase_msa.task import Task

Array = NDArray[np.float64]
_LEAST_WEIGHT = 0.02  # a coalition of a smaller weight is not kept
_MOST_OF_ONE = 8  # coalitions that one set of weights is divided among
_UNSEEN = -20.0  # logit of a class without an example


class RidgeReference(nn.Module):
    """A mixture of ridge regressions on pooled features, one per coalition. All its state is in buffers.

    Args:
        task: what is predicted.
        shapes: sizes of the buffers, as plain containers for a model's configuration: "modalities", by name the number
            of pooled features and of components, whether there are deviations, and the number of top components;
            "coalitions", the names of each; and "patterns", the sets of modalities for which there are weights of
            their own. The buffers are zero until a state is loaded; `fit` makes one with values.

    Attributes:
        coalitions: members of each coalition, in the task's order.
        coalition_weights: of the coalitions, which add up to one, [c].
        pattern_weights: the same for utterances that have just one of the `patterns`, [p, c]. What is lacking to one
            is the weight of the prior.
        patterns: the modalities of each, [p, m].
        slopes: of the class logits over the targets that a coalition predicts, [c, o, k].
        intercepts: of the class logits, [c, k].
        prior: class frequencies of the training labels, [k].
        offset: of the Fourier features, [f].

    Further buffers hold, per modality, "low", "high", "center", "scale", "matrix", "fourier" and "top" (see `Pooling`,
    `Projection`),
    and per coalition "weights" and "joint_mean" (see `CoalitionFit`).
    """

    coalition_weights: Tensor
    pattern_weights: Tensor
    patterns: Tensor
    slopes: Tensor
    intercepts: Tensor
    prior: Tensor
    offset: Tensor

    def __init__(self, task: Task, shapes: Mapping[str, Any]) -> None:
        super().__init__()
        self.task = task
        self.shapes = dict(shapes)
        self.modalities: dict[str, Any] = shapes["modalities"]
        self.coalitions = [tuple(names) for names in shapes["coalitions"]]
        outputs = 1 if task.values is not None else task.num_classes
        for name, (pooled, components, with_deviation, top) in self.modalities.items():
            dim = pooled // 2 if with_deviation else pooled
            self.register_buffer(f"low_{name}", torch.full((dim,), -torch.inf))
            self.register_buffer(f"high_{name}", torch.full((dim,), torch.inf))
            self.register_buffer(f"center_{name}", torch.zeros(pooled))
            self.register_buffer(f"scale_{name}", torch.zeros(pooled))
            self.register_buffer(f"matrix_{name}", torch.zeros(pooled, components))
            self.register_buffer(f"fourier_{name}", torch.zeros(components, FOURIER))
            self.register_buffer(f"top_{name}", torch.zeros(pooled, top))
        for number, names in enumerate(self.coalitions):
            pairs = products([torch.zeros(1, self.modalities[name][3]) for name in names])
            joint = FOURIER + sum(pair.shape[1] for pair in pairs)
            size = sum(self.modalities[name][1] for name in names) + joint
            self.register_buffer(f"weights_{number}", torch.zeros(size, outputs))
            self.register_buffer(f"joint_mean_{number}", torch.zeros(joint))
        count = len(self.coalitions)
        self.register_buffer("slopes", torch.zeros(count, outputs, task.num_classes))
        self.register_buffer("intercepts", torch.zeros(count, task.num_classes))
        self.register_buffer("coalition_weights", torch.zeros(count))
        patterns = [[name in names for name in task.modalities] for names in shapes.get("patterns", [])]
        flags = torch.tensor(patterns, dtype=torch.bool).view(-1, len(task.modalities))
        self.register_buffer("patterns", flags, persistent=False)
        self.register_buffer("pattern_weights", torch.zeros(len(patterns), count))
        self.register_buffer("prior", torch.zeros(task.num_classes))
        self.register_buffer("offset", torch.zeros(FOURIER))

    @classmethod
    def fit(
        cls,
        task: Task,
        solver: RidgeSolver,
        poolings: Mapping[str, Pooling],
        coalition_weights: Mapping[frozenset[str], float],
        labels: Float[Array, " n"],
        given: Mapping[frozenset[str], Mapping[frozenset[str], float]] | None = None,
    ) -> RidgeReference | None:
        """The mixture of the coalitions with the largest weights; None where only the empty one has a weight.

        Args:
            task: what is predicted.
            solver: of the regressions.
            poolings: how its features were made.
            coalition_weights: by coalition.
            labels: scores or class numbers of the training rows, [n].
            given: weights for utterances that lack a modality, by the set of those that they have.
        """
        common = _heaviest(coalition_weights)
        if not common:
            return None
        others = dict(reversed([(part, _heaviest(weights)) for part, weights in (given or {}).items()]))
        # those of all utterances first, then those of who has least, as many as there is room for
        listed = list(dict.fromkeys([*common, *(c for weights in others.values() for c in weights)]))[:MOST_COALITIONS]
        chosen = [tuple(name for name in poolings if name in coalition) for coalition in listed]
        result = cls(task, _shapes(solver, poolings, chosen, list(others)))
        for name, pooling in poolings.items():
            result._set_modality(name, pooling, solver)
        result.coalition_weights.copy_(_scaled(common, listed, 1.0))
        for place, (part, weights) in enumerate(others.items()):
            # where nothing of what an utterance has tells anything, the prior does
            result.pattern_weights[place] = _scaled(weights, listed, 1 - (given or {})[part].get(frozenset(), 0.0))
        for number, names in enumerate(chosen):
            solved = solver.solve(names)
            slopes, intercepts = _class_logits(task, solved.grouped, labels)
            result.slopes[number] = torch.as_tensor(slopes)
            result.intercepts[number] = torch.as_tensor(intercepts)
            getattr(result, f"weights_{number}").copy_(torch.as_tensor(solved.weights))
            getattr(result, f"joint_mean_{number}").copy_(torch.as_tensor(solved.joint_mean))
        result.offset.copy_(solver.offsets)
        result.prior.copy_(task.frequencies(torch.from_numpy(labels)))
        return result

    def _set_modality(self, name: str, pooling: Pooling, solver: RidgeSolver) -> None:
        projection = solver.projections[name]
        values = {
            "low": torch.as_tensor(pooling.low),
            "high": torch.as_tensor(pooling.high),
            "center": torch.as_tensor(pooling.center),
            "scale": torch.as_tensor(pooling.inverse_scale),
            "matrix": projection.components,
            "fourier": projection.frequencies,
            "top": projection.top_components,
        }
        for kind, value in values.items():
            getattr(self, f"{kind}_{name}").copy_(value)

    def prediction_weight(self, modality: str) -> float:
        """Part of the reference's prediction that uses a modality, in [0, 1]: the weight of the coalitions with it."""
        weights = zip(self.coalition_weights, self.coalitions, strict=True)
        return sum(float(weight) for weight, names in weights if modality in names)

    @torch.no_grad()
    def forward(
        self, batch: Batch, coalitions: Sequence[frozenset[str]], *, lost: bool = False
    ) -> list[Float[Tensor, "n k"]]:
        """Class probabilities with only the named modalities, one per coalition.

        A modality that is masked or absent counts as average (its features are zero). A regression of which an
        utterance has no modality at all predicts the class prior.

        Args:
            batch: utterances.
            coalitions: sets of modalities.
            lost: whether the weights are those of what a coalition leaves of an utterance, and not those of what the
                utterance has.
        """
        components = {name: self._components(batch, name) for name in self.modalities}
        masked = [batch.only(coalition).present for coalition in coalitions]
        weights = [self._weights(present) for present in (masked if lost else [batch.present])]
        return [
            self._predict(components, present, own)
            for present, own in zip(masked, weights if lost else weights * len(masked), strict=True)
        ]

    def _weights(self, present: Mapping[str, Bool[Tensor, " n"]]) -> Float[Tensor, "n c"]:
        """Weights of the coalitions for what each utterance has."""
        there = stacked_presence(present, self.task.modalities)
        return pattern_rows(there, self.patterns, self.pattern_weights, self.coalition_weights)

    def _components(self, batch: Batch, name: str) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n q"]]:
        """Components of a modality, and its top components."""
        limits = getattr(self, f"low_{name}"), getattr(self, f"high_{name}")
        moments = _moments(batch.features[name], batch.lengths[name], self.modalities[name][2], limits)
        scaled = (moments - getattr(self, f"center_{name}")) * getattr(self, f"scale_{name}")
        usable = moments.isfinite() & batch.present[name].unsqueeze(1)
        pooled = torch.where(usable, scaled.clamp(-CLIP, CLIP), 0.0)
        return pooled @ getattr(self, f"matrix_{name}"), pooled @ getattr(self, f"top_{name}")

    def _predict(
        self,
        components: Mapping[str, tuple[Tensor, Tensor]],
        present: Mapping[str, Bool[Tensor, " n"]],
        weights: Float[Tensor, "n c"],
    ) -> Float[Tensor, "n k"]:
        total = (1 - weights.sum(1, keepdim=True)).clamp(min=0) * self.prior
        used = [True] * len(self.coalitions) if torch.compiler.is_compiling() else weights.any(0).tolist()
        for number, names in enumerate(self.coalitions):
            if not used[number]:
                continue
            here = {name: present[name].unsqueeze(1) for name in names}
            linear, top = zip(*([part * here[name] for part in components[name]] for name in names), strict=True)
            phases = [part @ getattr(self, f"fourier_{name}") for part, name in zip(linear, names, strict=True)]
            joint = torch.cat([fourier_features(phases, self.offset), *products(top)], dim=1)
            design = torch.cat([*linear, joint - getattr(self, f"joint_mean_{number}")], dim=1)
            predicted = design @ getattr(self, f"weights_{number}")
            logits = predicted @ self.slopes[number] + self.intercepts[number]
            any_present = torch.cat(list(here.values()), dim=1).any(1, keepdim=True)
            total = total + weights[:, number : number + 1] * torch.where(any_present, logits.softmax(1), self.prior)
        return total


def _heaviest(weights: Mapping[frozenset[str], float]) -> dict[frozenset[str], float]:
    """The coalitions of the largest weights that are worth a regression."""
    listed = [item for item in weights.items() if item[0] and item[1] > _LEAST_WEIGHT]
    return dict(sorted(listed, key=lambda item: -item[1])[:_MOST_OF_ONE])


def _scaled(weights: Mapping[frozenset[str], float], listed: list[frozenset[str]], total: float) -> Float[Tensor, " c"]:
    """The weights of the listed coalitions, scaled to add up to a total; zeros where none of them has any."""
    row = torch.tensor([weights.get(coalition, 0.0) for coalition in listed])
    return row * (total / max(float(row.sum()), 1e-12))


def _shapes(
    solver: RidgeSolver,
    poolings: Mapping[str, Pooling],
    coalitions: list[tuple[str, ...]],
    patterns: list[frozenset[str]],
) -> dict[str, Any]:
    """The `shapes` of the reference that these make."""
    return {
        "modalities": {
            name: [
                *solver.projections[name].components.shape,
                pooling.with_deviation,
                solver.projections[name].top_components.shape[1],
            ]
            for name, pooling in poolings.items()
        },
        "coalitions": [list(names) for names in coalitions],
        "patterns": [sorted(names) for names in patterns],
    }


def _class_logits(task: Task, predicted: Float[Array, "n o"], labels: Float[Array, " n"]) -> tuple[Array, Array]:
    """The linear map from predicted targets to class logits: slopes [o, k] and intercepts [k].

    It is fitted on out-of-fold predictions by the objective of a network (eq. 16 and the absolute error of the score),
    so that the two can be mixed. A least-squares prediction is a mean; where ratings crowd at both ends of the scale,
    the score with the least error is not. A weak penalty on the slopes keeps separable classes finite.
    """
    from scipy.optimize import minimize  # who only predicts with a saved model does not need it

    # the optimiser wants inputs of about unit size
    scale = max(float(predicted.std()), 1e-12)
    inputs, truth = torch.from_numpy(predicted / scale), torch.from_numpy(labels).double()
    membership = task.membership(truth).double()
    size = predicted.shape[1] * task.num_classes

    def objective(values: Array) -> tuple[float, Array]:
        parameters = torch.tensor(values, requires_grad=True)
        slopes, intercepts = parameters[:size].view(predicted.shape[1], -1), parameters[size:]
        logits = inputs @ slopes + intercepts
        score = task.score(logits.softmax(1)) if task.values is not None else None
        losses = task_losses(logits, score, truth, membership)
        loss = torch.stack([*losses.values(), slopes.square().sum() / (2 * len(inputs))]).sum()
        return loss.item(), torch.autograd.grad(loss, parameters)[0].numpy()

    # from the class frequencies, which are the best map of a prediction that tells nothing
    frequencies = membership.mean(0).log().clamp(min=_UNSEEN).numpy()
    fitted = minimize(objective, np.r_[np.zeros(size), frequencies], jac=True, method="L-BFGS-B").x
    return fitted[:size].reshape(predicted.shape[1], -1) / scale, fitted[size:]


def _moments(
    features: Float[Tensor, "n t d"],
    lengths: Int[Tensor, " n"],
    with_deviation: bool,
    limits: tuple[Float[Tensor, " d"], Float[Tensor, " d"]],
) -> Float[Tensor, "n p"]:
    """Mean and, where asked for, deviation over the finite values of the valid steps, which are cut off at the limits.

    NaN where there are none.
    """
    valid: Bool[Tensor, "n t d"] = features.isfinite() & step_mask(lengths, features.shape[1]).unsqueeze(2)
    values = torch.where(valid, features.clamp(*limits), 0.0)
    count = valid.sum(1)
    mean = values.sum(1) / count
    if not with_deviation:
        return mean
    square = torch.where(valid, (values - mean.unsqueeze(1)) ** 2, 0.0).sum(1) / count
    return torch.cat([mean, square.sqrt()], dim=1)
