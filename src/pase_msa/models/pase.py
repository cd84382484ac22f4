"""PaSE: prototype calibration, transport alignment and prototype-gated fusion (He et al., "PaSE", Figure 2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pase_msa import plugins
from pase_msa.alignment import PrototypeAligner
from pase_msa.batch import Batch, Outputs, split_rows
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.fusion.base import Fusion, Mixes, Stacked
from pase_msa.models.base import Model, head
from pase_msa.objective import Losses, align_losses, task_losses
from pase_msa.prototypes import (
    Blend,
    PrototypeBank,
    PrototypeGradient,
    calibration_loss,
    joint_posterior,
    log_posterior,
)
from pase_msa.ranges import COUNT, NOT_NEGATIVE, POSITIVE, PROPER_SHARE, SHARE, check_model
from pase_msa.task import Task
from pase_msa.transport import Marginals
from pase_msa.weighting import EntropySign, EntropyWeighting

#: the balancing method of a run that names none
BALANCING = "held_out"

_ROWS = 4096  # rows, over all coalitions, that go through the fusion at once


@dataclass
class Config:
    """Options. Equations are those of the paper; where one can be read in two ways, an option chooses the reading.

    Attributes:
        name: of the plug-in.
        width: size D of the modality vectors, the prototypes and the fused vector.
        dropout: in fusion and head.
        fusion: plug-in in `pase_msa.fusion`: "gated" (PGF), "concat", "sum", "attention".
        momentum: gamma, eq. 2.
        temperature: tau, eq. 3.
        mu: weight of the alignment losses, eq. 15.
        calibration: PCL, eq. 3.
        alignment: CAL, eq. 9.
        alignment_weight: of L_inter in eq. 17. The paper has 1, with a moving average that passes on 2 % of the
            gradient. "straight_through" passes on all of it; with 1 it would exceed the task's gradient at first.
        alignment_interval: CAL is part of every n-th step, n times as heavy, since prototypes hardly move from one
            step to the next (lazy regularisation, Karras et al. 2020); 1 is literal.
        regularization: lambda, eq. 5.
        consistency: alpha, eq. 9.
        structure: beta, eq. 9.
        marginals: "balanced" or "source", eq. 5 to 7.
        relaxation: KL penalty of the relaxed marginal of "source".
        prototype_gradient: "straight_through" gives CAL the gradient of the batch centroids, "ema" (literal) only
            1 - gamma of it.
        entropy_sign: reading of eq. 10: "confidence" or "literal"; "uniform" weighs all modalities alike.
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
    prototype_gradient: PrototypeGradient = "straight_through"
    entropy_sign: EntropySign = "confidence"
    gate_prototype: Literal["expected", "hard", "label"] = "expected"
    imputation: bool = True
    utility_mix: float = 0.5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(
            self,
            momentum=PROPER_SHARE,
            temperature=POSITIVE,
            mu=NOT_NEGATIVE,
            alignment_weight=NOT_NEGATIVE,
            alignment_interval=COUNT,
            regularization=POSITIVE,
            consistency=NOT_NEGATIVE,
            structure=NOT_NEGATIVE,
            relaxation=POSITIVE,
            utility_mix=SHARE,
        )


@dataclass
class PaSEStep:
    """What `losses` computes for `update`.

    Attributes:
        membership: of the batch's labels, [N, K].
        blend: the prototypes after the batch, eq. 2.
        potentials: the solutions of the transport problems, for the next step; None where nothing was solved.
    """

    membership: Float[Tensor, "n k"]
    blend: Blend
    potentials: tuple[Tensor, Tensor] | None = None


@dataclass
class PaSEState:
    """What `losses` and `update` need of a pass of the network, over M modalities.

    Attributes:
        vectors: [M, N, D]; imputed where a modality is absent.
        log_posteriors: logarithms of the prototype posteriors, [M, N, K]; eq. 3 differentiates them.
        posteriors: the same without logarithm and gradient, imputed where a modality is absent, [M, N, K].
        present: [M, N], 1.0 where an utterance has the modality; None where nothing is absent.
        weights: alpha of eq. 11, [M].
        step: what `losses` computed.
    """

    vectors: Float[Tensor, "m n d"]
    log_posteriors: Float[Tensor, "m n k"]
    posteriors: Float[Tensor, "m n k"]
    present: Float[Tensor, "m n"] | None
    weights: Float[Tensor, " m"]
    step: PaSEStep | None = None

    def split(self, count: int) -> list[PaSEState]:
        """The states of `count` batches of the same size that went through the network as one."""
        vectors, logs, posteriors = (
            split_rows(rows, count, dim=1) for rows in (self.vectors, self.log_posteriors, self.posteriors)
        )
        present = [None] * count if self.present is None else split_rows(self.present, count, dim=1)
        return [PaSEState(*rows, self.weights) for rows in zip(vectors, logs, posteriors, present, strict=True)]


class PaSE(Model):
    """The model. Prototypes and modality weights are buffers; `update` moves them, in training only."""

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.bank = PrototypeBank(task.num_classes, config.width, config.momentum, modalities=len(task.modalities))
        self.weighting = EntropyWeighting(task.modalities, config.entropy_sign)
        fusion: Fusion = plugins.load("fusion", config.fusion).build(task.modalities, config.width, config.dropout)
        self.fusion = fusion
        self.head = head(config.width, task.num_classes, config.dropout)
        weights = (config.regularization, config.consistency, config.structure)
        self.aligner = PrototypeAligner(
            task.modalities, task.num_classes, *weights, marginals=config.marginals, relaxation=config.relaxation
        )
        self._steps = 0  # of this epoch

    @property
    def imputation(self) -> bool | None:
        """Whether absent modalities are imputed."""
        return self.config.imputation

    @imputation.setter
    def imputation(self, on: bool | None) -> None:
        self.config = dataclasses.replace(self.config, imputation=bool(on))

    def begin_epoch(self) -> None:
        """Every epoch has an alignment step: its first."""
        self._steps = 0

    @property
    def ready(self) -> bool:
        """Whether a training batch was seen, so that there are prototypes."""
        return self.bank.started

    def network(self, batch: Batch) -> Outputs:
        """One pass with every modality of the batch; labels are read in training with `gate_prototype="label"` only."""
        vectors, present, logs = self._encode(batch)
        membership = None
        if self.training and self.config.gate_prototype == "label" and batch.labels is not None:
            membership = self.task.membership(batch.labels)
        return self._fuse(vectors, present, logs, membership)

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities; each utterance is encoded once, and coalitions go together."""
        vectors, present, logs = self._encode(batch)
        members = [[name in coalition for coalition in coalitions] for name in self.task.modalities]
        allowed = torch.tensor(members, dtype=torch.bool, device=present.device)
        outputs: list[Outputs] = []
        # an exported graph takes a batch of any size, so that rows cannot be counted there
        at_once = len(coalitions) if torch.compiler.is_compiling() else max(1, _ROWS // max(1, len(batch)))
        for some in torch.split(allowed, at_once, dim=1):
            count = some.shape[1]  # the batch is repeated once per coalition; a row depends on no other row
            masked = (vectors.unsqueeze(1) * some.view(len(some), -1, 1, 1)).flatten(1, 2)
            flags = (some.unsqueeze(2) & present.unsqueeze(1)).flatten(1)
            outputs += self._fuse(masked, flags, logs.repeat(1, count, 1), None).split(count)
        return outputs

    def _encode(self, batch: Batch) -> tuple[Float[Tensor, "m n d"], Bool[Tensor, "m n"], Float[Tensor, "m n k"]]:
        """Vectors, presence, and the logarithms of the prototype posteriors."""
        by_name, flags = self.encode(batch)
        vectors, present = (torch.stack([group[n] for n in self.task.modalities]) for group in (by_name, flags))
        logs = log_posterior(vectors, self.bank.prototypes, self.config.temperature, self.bank.mask)
        return vectors, present, logs

    def _fuse(
        self,
        vectors: Float[Tensor, "m n d"],
        flags: Bool[Tensor, "m n"],
        logs: Float[Tensor, "m n k"],
        membership: Float[Tensor, "n k"] | None,
    ) -> Outputs:
        names, prototypes, alpha = self.task.modalities, self.bank.prototypes, self.weighting.alpha
        # For gates, weights and imputation posteriors are constants; only eq. 3 differentiates them. In the paper c_y
        # is the prototype of the label and has no gradient either.
        posteriors, present = logs.detach().exp(), None
        # a compiled graph cannot look before it decides; where nothing is absent, the branch changes nothing
        if torch.compiler.is_compiling() or not bool(flags.all()):
            present = flags.to(posteriors.dtype)
            here = present.unsqueeze(2)
            absent = (1 - here) * joint_posterior(posteriors, present, alpha, self.class_prior)
            posteriors = torch.addcmul(absent, posteriors, here)
            if self.config.imputation:  # the vector of an absent modality is zero until something is added to it
                vectors = torch.baddbmm(vectors, absent, prototypes)
        vectors_of, weights_of, present_of = Stacked(names, vectors), Stacked(names, alpha), Stacked(names, flags)
        mixes = Mixes(names, self._gate_shares(posteriors, membership), prototypes)
        fused = self.fusion(vectors_of, weights_of, mixes, present_of)
        return self.outputs(
            self.head(fused.vector),
            fused.vector,
            present_of,
            vectors=vectors_of,
            posteriors=Stacked(names, posteriors),
            gates=fused.gates,
            weights=weights_of,
            state=PaSEState(vectors, logs, posteriors, present, alpha),
        )

    def _gate_shares(self, posteriors: Tensor, membership: Tensor | None) -> Float[Tensor, "m n k"]:
        """The weights with which the c_y of eq. 12 mixes the prototypes."""
        if membership is not None:
            return membership.expand_as(posteriors)
        if self.config.gate_prototype == "hard":
            return torch.zeros_like(posteriors).scatter_(2, posteriors.argmax(2, keepdim=True), 1.0)
        return posteriors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """Eq. 15: "class", "score", "intra", "inter". What `update` needs is left in `outputs.state`."""
        assert batch.labels is not None
        config, names, state = self.config, self.task.modalities, _state(outputs)
        membership = self.task.membership(batch.labels)
        losses = task_losses(
            outputs.logits,
            outputs.score,
            batch.labels,
            membership,
            class_weight=config.class_weight,
            score_weight=config.score_weight,
        )
        aligned = config.alignment and len(names) > 1 and self._steps % config.alignment_interval == 0
        vectors = state.vectors if aligned else state.vectors.detach()
        blend = self.bank.blend(vectors, membership, state.present, gradient=config.prototype_gradient)
        intra = calibration_loss(
            state.vectors,
            self.bank.prototypes,
            membership,
            config.temperature,
            present=state.present,
            initialised=self.bank.mask,
            log_posteriors=state.log_posteriors,
            rows=blend.rows(),
        )
        outputs.details |= {f"intra/{name}": value for name, value in zip(names, intra.detach().unbind(), strict=True)}
        state.step = PaSEStep(membership, blend)
        inter = None
        if aligned:
            initialised = None if self.bank.mask is None else blend.initialised
            terms = self.aligner(blend.prototypes, initialised, state.present)
            state.step.potentials = terms.potentials
            outputs.details |= {f"inter/{m}+{n}": value.detach() for (m, n), value in terms.pairs.items()}
            inter = config.alignment_weight * config.alignment_interval * terms.loss
        return losses | align_losses(state.weights * intra if config.calibration else None, inter, config.mu)

    @torch.no_grad()
    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Move prototypes (eq. 2) and modality weights (eq. 10) by a training batch, after `losses` of these outputs.

        Errors:
            PaSEError: `losses` was not called with these outputs.
        """
        state = _state(outputs)
        if state.step is None:
            raise PaSEError("PaSE.update needs what PaSE.losses computed of these outputs; call losses before it.")
        self._steps += 1
        self.bank.take(state.step.blend)
        self.weighting.blend(state.posteriors, state.step.membership, state.present)
        if state.step.potentials is not None:
            self.aligner.take(state.step.potentials)

    def coalition_utility(self, losses: Mapping[str, float], coalition: frozenset[str]) -> float:
        """Eq. 19. L_intra is the mean over the coalition's modalities, L_inter the mean over its pairs.

        A single modality has no pair, so its inter-modal term is perfect: 1.
        """
        members = [name for name in self.task.modalities if name in coalition]
        intra = [losses[f"intra/{name}"] for name in members]
        inter = [losses.get(f"inter/{m}+{n}", 0.0) for m, n in combinations(members, 2)]
        rho = self.config.utility_mix
        mean_inter = sum(inter) / len(inter) if inter else 0.0
        return rho / (1 + mean_inter) + (1 - rho) / (1 + sum(intra) / len(intra))


def _state(outputs: Outputs) -> PaSEState:
    if not isinstance(outputs.state, PaSEState):
        raise PaSEError("These outputs are not of a pass of PaSE's network; call network(batch) or model(batch) first.")
    return outputs.state


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> PaSE:
    """The plug-in's entry point."""
    return PaSE(task, inputs, config)
