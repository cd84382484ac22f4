"""PaSE: prototype calibration, transport alignment and prototype-gated fusion (He et al., "PaSE", Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pase_msa import plugins
from pase_msa.alignment import alignment_terms
from pase_msa.batch import Batch, Outputs
from pase_msa.encoders.base import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.fusion.base import Fusion
from pase_msa.models.base import Model, head, make_outputs
from pase_msa.objective import Losses, align_losses, task_losses
from pase_msa.prototypes import PrototypeBank, class_centroids, log_posterior, membership_loss
from pase_msa.task import Task
from pase_msa.transport import Marginals
from pase_msa.weighting import EntropySign, EntropyWeighting

#: the balancing method of a run that names none
MODULATION = "sgm"


@dataclass
class Config:
    """Options; the equations are those of the paper, the readings those of `docs/equations.md`.

    Attributes:
        name: the plug-in.
        width: size D of the modality vectors, the prototypes and the fused vector.
        dropout: in fusion and head.
        fusion: plug-in in `pase_msa.fusion`: "gated" (PGF), "concat", "sum", "attention".
        momentum: gamma, eq. 2.
        temperature: tau, eq. 3.
        mu: weight of the alignment losses, eq. 15.
        calibration: PCL, eq. 3.
        alignment: CAL, eq. 9.
        alignment_weight: of L_inter in eq. 17. The paper has 1, where the moving average lets 2 % of the gradient
            through; "straight_through" lets all of it through, and at 1 it drowns the task's gradient at first.
        alignment_interval: CAL is part of every n-th step, n times as heavy, since prototypes hardly move from one
            step to the next (lazy regularisation, Karras et al. 2020); 1 is literal.
        regularization: lambda, eq. 5.
        consistency: alpha, eq. 9.
        structure: beta, eq. 9.
        marginals: "balanced" or "source", eq. 5 to 7.
        relaxation: KL penalty of the relaxed marginal of "source".
        prototype_gradient: "straight_through" gives CAL the gradient of the batch centroids, "ema" (literal) only
            1 - gamma of it.
        entropy_sign: reading of eq. 10: "confidence" or "literal".
        gate_prototype: c_y of eq. 12: "expected" under the posterior, the "hard" nearest, or the "label"'s own in
            training (expected in prediction).
        imputation: an absent modality is the mix of its prototypes under the posterior of those present; else zero.
        utility_mix: rho, eq. 19.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "pase"
    width: int = 128
    dropout: float = 0.4
    fusion: str = "gated"
    momentum: float = 0.98
    temperature: float = 0.3
    mu: float = 0.1
    calibration: bool = True
    alignment: bool = True
    alignment_weight: float = 0.02
    alignment_interval: int = 4
    regularization: float = 0.01
    consistency: float = 0.1
    structure: float = 0.05
    marginals: Marginals = "balanced"
    relaxation: float = 1.0
    prototype_gradient: Literal["straight_through", "ema"] = "straight_through"
    entropy_sign: EntropySign = "confidence"
    gate_prototype: Literal["expected", "hard", "label"] = "expected"
    imputation: bool = True
    utility_mix: float = 0.5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.utility_mix <= 1:
            raise PaSEError(f"model.utility_mix (rho of eq. 19) lies in [0, 1], found {self.utility_mix}.")
        if self.alignment_interval < 1:
            raise PaSEError(f"model.alignment_interval must be 1 or more, found {self.alignment_interval}.")
        if self.mu < 0 or self.alignment_weight < 0:
            raise PaSEError(
                f"model.mu and model.alignment_weight must not be negative, found {self.mu}, {self.alignment_weight}."
            )


class PaSE(Model):
    """The model. Prototypes and modality weights are buffers that `update` moves, in training only."""

    row_potentials: Tensor
    column_potentials: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.banks = nn.ModuleDict(
            {name: PrototypeBank(task.num_classes, config.width, config.momentum) for name in task.modalities}
        )
        self.weighting = EntropyWeighting(task.modalities, config.entropy_sign)
        fusion: Fusion = plugins.load("fusion", config.fusion).build(task.modalities, config.width, config.dropout)
        self.fusion = fusion
        self.head = head(config.width, task.num_classes, config.dropout)
        self.pairs = list(combinations(task.modalities, 2))
        solves = len(self.pairs) * (2 if config.marginals == "source" else 1)
        # the last solution of the transport problems, from which the next one starts; saved, so that a resumed run
        # starts from the same one
        self.register_buffer("row_potentials", torch.zeros(solves, task.num_classes, dtype=torch.float64))
        self.register_buffer("column_potentials", torch.zeros(solves, task.num_classes, dtype=torch.float64))
        self._steps = 0  # of this epoch
        self._complete = self._started = False

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # a method and no hook: a hook would be bound to this very object, which then neither copies nor pickles
        super()._load_from_state_dict(*args, **kwargs)
        self._complete = self._started = False

    def begin_epoch(self) -> None:
        """Every epoch has an alignment step: its first."""
        self._steps = 0

    @property
    def ready(self) -> bool:
        """Whether a batch has been seen, so that there are prototypes."""
        if not self._started:  # asked at every step: once true, the device is not asked again
            self._started = bool(self._prototypes()[1].any())
        return self._started

    def forward(self, batch: Batch) -> Outputs:
        """Predict; labels are read in training under `gate_prototype="label"` only."""
        vectors, present = self.encode(batch)
        known = self.training and self.config.gate_prototype == "label" and batch.labels is not None
        membership = self.task.membership(batch.labels) if known and batch.labels is not None else None
        return self._fuse(vectors, present, membership)

    def coalition_outputs(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities; each utterance is encoded once."""
        vectors, present = self.encode(batch)
        absent = torch.zeros(len(batch), dtype=torch.bool, device=batch.present[self.task.modalities[0]].device)
        return [
            self._fuse(vectors, {name: flag if name in kept else absent for name, flag in present.items()}, None)
            for kept in coalitions
        ]

    def _fuse(
        self,
        vectors: Mapping[str, Float[Tensor, "n d"]],
        present: Mapping[str, Bool[Tensor, " n"]],
        membership: Float[Tensor, "n k"] | None,
    ) -> Outputs:
        names = self.task.modalities
        stacked = torch.stack([vectors[name] for name in names])
        flags = torch.stack([present[name] for name in names])
        prototypes, initialised = self._prototypes()
        # once every class has a prototype in every modality, nothing has to be masked any more
        logs = log_posterior(stacked, prototypes, self.config.temperature, None if self._complete else initialised)
        # a reading of the features for gates, weights and imputation; PCL alone differentiates it (in the paper c_y
        # is the label's and has no gradient either)
        posteriors = logs.detach().exp()
        alpha = self.weighting.alpha
        weights = dict(zip(names, alpha.unbind(), strict=True))
        if not bool(flags.all()):
            joint = self._joint(posteriors, flags, alpha)
            posteriors = torch.where(flags.unsqueeze(2), posteriors, joint)
            filled = joint @ prototypes if self.config.imputation else torch.zeros_like(stacked)
            stacked = torch.where(flags.unsqueeze(2), stacked, filled)
        chosen = self._gate_prototypes(posteriors, prototypes, membership)
        by_name = dict(zip(names, stacked.unbind(), strict=True))
        fused = self.fusion(by_name, weights, dict(zip(names, chosen.unbind(), strict=True)), present)
        return make_outputs(
            self.task,
            self.head(fused.vector),
            fused.vector,
            vectors=by_name,
            present=dict(present),
            posteriors=dict(zip(names, posteriors.unbind(), strict=True)),
            gates=fused.gates,
            weights=weights,
            state={"vectors": stacked, "present": flags, "logs": logs, "posteriors": posteriors, "weights": alpha},
        )

    def _prototypes(self) -> tuple[Float[Tensor, "m k d"], Bool[Tensor, "m k"]]:
        banks = [self.banks[name] for name in self.task.modalities]
        prototypes = torch.stack([bank.prototypes for bank in banks])  # type: ignore[misc]
        return prototypes, torch.stack([bank.initialised for bank in banks])  # type: ignore[misc]

    def _joint(
        self, posteriors: Float[Tensor, "m n k"], flags: Bool[Tensor, "m n"], weights: Float[Tensor, " m"]
    ) -> Float[Tensor, "n k"]:
        """The posterior of the modalities present, weighted by alpha; the class prior where there are none."""
        shares = weights.unsqueeze(1) * flags
        total = shares.sum(0)
        joint = torch.einsum("mn,mnk->nk", shares, posteriors) / total.clamp(min=1e-12).unsqueeze(1)
        return torch.where((total > 0).unsqueeze(1), joint, self.class_prior)

    def _gate_prototypes(
        self,
        posteriors: Float[Tensor, "m n k"],
        prototypes: Float[Tensor, "m k d"],
        membership: Float[Tensor, "n k"] | None,
    ) -> Float[Tensor, "m n d"]:
        if membership is not None:
            return membership @ prototypes
        if self.config.gate_prototype == "hard":
            nearest = posteriors.argmax(2, keepdim=True).expand(-1, -1, prototypes.shape[2])
            return prototypes.gather(1, nearest)
        return posteriors @ prototypes

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """Eq. 15: "class", "score", "intra", "inter"."""
        assert batch.labels is not None
        config, names = self.config, self.task.modalities
        membership = self.task.membership(batch.labels)
        prototypes, initialised = self._prototypes()
        losses = task_losses(
            outputs.logits,
            outputs.score,
            batch.labels,
            membership,
            class_weight=config.class_weight,
            score_weight=config.score_weight,
        )
        intra_values = membership_loss(
            outputs.state["logs"],
            membership.expand_as(outputs.state["logs"]),
            outputs.state["present"],
            None if self._complete else initialised,
        )
        for name, value in zip(names, intra_values.detach().unbind(), strict=True):
            outputs.details[f"intra/{name}"] = value
        aligned = config.alignment and len(names) > 1 and self._steps % config.alignment_interval == 0
        with torch.set_grad_enabled(aligned and torch.is_grad_enabled()):
            blended, started = self._blend(outputs, membership, prototypes, initialised)
        weight = config.alignment_weight * config.alignment_interval
        inter = weight * self._inter(outputs, blended, started) if aligned else None
        weighted = outputs.state["weights"] * intra_values if config.calibration else None
        return losses | align_losses(weighted, inter, config.mu)

    def _blend(
        self,
        outputs: Outputs,
        membership: Float[Tensor, "n k"],
        prototypes: Float[Tensor, "m k d"],
        initialised: Bool[Tensor, "m k"],
    ) -> tuple[Float[Tensor, "m k d"], Bool[Tensor, "m k"]]:
        """The prototypes after this batch, eq. 2, with the gradient that `prototype_gradient` asks for."""
        centroids, counts = class_centroids(outputs.state["vectors"], membership, outputs.state["present"])
        seen = counts > 0
        share = torch.where(seen & ~initialised, 1.0, torch.where(seen, 1 - self.config.momentum, 0.0))
        blended = torch.lerp(prototypes, centroids, share.unsqueeze(2))
        outputs.state |= {"prototypes": blended.detach(), "initialised": initialised | seen, "membership": membership}
        if self.config.prototype_gradient == "straight_through":
            blended = blended.detach() + (centroids - centroids.detach()) * seen.unsqueeze(2)
        return blended, initialised | seen

    def _inter(
        self, outputs: Outputs, prototypes: Float[Tensor, "m k d"], initialised: Bool[Tensor, "m k"]
    ) -> Float[Tensor, ""]:
        """Eq. 9 over the classes that every modality has a prototype of."""
        config = self.config
        self._complete = self._complete or bool(initialised.all())
        common = prototypes if self._complete else prototypes[:, initialised.all(0)]
        if common.shape[1] < 2:
            return prototypes.sum() * 0.0
        terms = alignment_terms(
            dict(zip(self.task.modalities, common.unbind(), strict=True)),
            config.regularization,
            config.consistency,
            config.structure,
            marginals=config.marginals,
            relaxation=config.relaxation,
            potentials=(self.row_potentials, self.column_potentials) if self._complete else None,
        )
        if self._complete and terms.potentials is not None:
            outputs.state["row_potentials"], outputs.state["column_potentials"] = terms.potentials
        outputs.details |= {f"inter/{m}+{n}": value.detach() for (m, n), value in terms.pairs.items()}
        return terms.loss

    @torch.no_grad()
    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Move prototypes (eq. 2) and modality weights (eq. 10) by a training batch."""
        state, membership = outputs.state, outputs.state["membership"]
        self._steps += 1
        self._complete = self._complete or bool(state["initialised"].all())
        for name, prototypes, initialised in zip(
            self.task.modalities, state["prototypes"], state["initialised"], strict=True
        ):
            self.banks[name].prototypes, self.banks[name].initialised = prototypes.clone(), initialised.clone()
        self.weighting.blend(state["posteriors"], membership, state["present"])
        if "row_potentials" in state:
            self.row_potentials, self.column_potentials = state["row_potentials"], state["column_potentials"]

    def coalition_utility(self, losses: Mapping[str, float], coalition: frozenset[str]) -> float:
        """Eq. 19. L_intra is the mean over the coalition's modalities, L_inter the mean over its pairs.

        A single modality has no pair, so its inter-modal term is perfect: 1.
        """
        intra = [losses[f"intra/{name}"] for name in self.task.modalities if name in coalition]
        inter = [losses.get(f"inter/{m}+{n}", 0.0) for m, n in self.pairs if m in coalition and n in coalition]
        rho = self.config.utility_mix
        mean_inter = sum(inter) / len(inter) if inter else 0.0
        return rho / (1 + mean_inter) + (1 - rho) / (1 + sum(intra) / len(intra))


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> PaSE:
    """The plug-in's entry point."""
    return PaSE(task, inputs, config)
