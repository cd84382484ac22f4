"""PaSE: prototype calibration, transport alignment and prototype-gated fusion (He et al., "PaSE", Figure 2)."""

from __future__ import annotations

import dataclasses
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
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.fusion.base import Fusion, Mixes, Stacked
from pase_msa.models.base import Model, head
from pase_msa.models.copies import split
from pase_msa.objective import Losses, align_losses, task_losses
from pase_msa.prototypes import PrototypeBank, class_centroids, log_posterior
from pase_msa.task import Task
from pase_msa.transport import Marginals
from pase_msa.weighting import EntropySign, EntropyWeighting

#: the balancing method of a run that names none
BALANCING = "held_out"

_TRACE = 1e-12  # the weight of the class prior in an utterance's joint posterior
_ROWS = 4096  # how many rows of coalitions go through the fusion at once


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


@dataclass
class _Reading:
    """What the prototypes say about the features: `logs` of the posteriors, and the prototypes that said it."""

    logs: Float[Tensor, "m n k"]
    prototypes: Float[Tensor, "m k d"]
    initialised: Bool[Tensor, "m k"]


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
        """Whether a batch has been seen, so that there are prototypes."""
        if not self._started:  # asked at every step: once true, the device is not asked again
            self._started = bool(self._prototypes()[1].any())
        return self._started

    def network(self, batch: Batch) -> Outputs:
        """Predict; labels are read in training under `gate_prototype="label"` only."""
        stacked, flags = self._encode(batch)
        known = self.training and self.config.gate_prototype == "label" and batch.labels is not None
        membership = self.task.membership(batch.labels) if known and batch.labels is not None else None
        return self._fuse(stacked, flags, self._read(stacked), membership)

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities; each utterance is encoded once, and coalitions go together."""
        stacked, flags = self._encode(batch)
        reading = self._read(stacked)
        kept = [[name in coalition for coalition in coalitions] for name in self.task.modalities]
        allowed = torch.tensor(kept, dtype=torch.bool, device=flags.device)
        outputs: list[Outputs] = []
        # an exported graph has a batch of any size, so that there is nothing to count
        at_once = len(coalitions) if torch.compiler.is_compiling() else max(1, _ROWS // max(1, len(batch)))
        for some in torch.split(allowed, at_once, dim=1):
            copies = some.shape[1]  # each coalition is one more copy of the batch; no row sees another
            repeated = _Reading(reading.logs.repeat(1, copies, 1), reading.prototypes, reading.initialised)
            present = (some.unsqueeze(2) & flags.unsqueeze(1)).flatten(1)
            vectors = (stacked.unsqueeze(1) * some.view(len(some), -1, 1, 1)).flatten(1, 2)
            outputs += split(self._fuse(vectors, present, repeated, None), copies)
        return outputs

    def _encode(self, batch: Batch) -> tuple[Float[Tensor, "m n d"], Bool[Tensor, "m n"]]:
        vectors, present = self.encode(batch)
        names = self.task.modalities
        return torch.stack([vectors[name] for name in names]), torch.stack([present[name] for name in names])

    def _read(self, stacked: Float[Tensor, "m n d"]) -> _Reading:
        prototypes, initialised = self._prototypes()
        # once every class has a prototype in every modality, nothing has to be masked any more
        masked = None if self._complete else initialised
        return _Reading(log_posterior(stacked, prototypes, self.config.temperature, masked), prototypes, initialised)

    def _fuse(
        self,
        stacked: Float[Tensor, "m n d"],
        flags: Bool[Tensor, "m n"],
        reading: _Reading,
        membership: Float[Tensor, "n k"] | None,
    ) -> Outputs:
        names, prototypes = self.task.modalities, reading.prototypes
        # a reading of the features for gates, weights and imputation; PCL alone differentiates it (in the paper c_y
        # is the label's and has no gradient either)
        posteriors = reading.logs.detach().exp()
        alpha = self.weighting.alpha
        state = {"logs": reading.logs, "weights": alpha, "prototypes": prototypes, "initialised": reading.initialised}
        # a graph cannot look before it decides; where nothing is absent, the branch changes nothing
        if torch.compiler.is_compiling() or not bool(flags.all()):
            here = flags.unsqueeze(2).to(posteriors.dtype)
            absent = (1 - here) * self._joint(posteriors, here, alpha)
            posteriors = torch.addcmul(absent, posteriors, here)
            if self.config.imputation:  # the vector of an absent modality is zero until something is added to it
                stacked = torch.baddbmm(stacked, absent, prototypes)
            state["present"] = here.squeeze(2)  # left out where nothing is absent, and nothing then has to be masked
        vectors, weights, present = Stacked(names, stacked), Stacked(names, alpha), Stacked(names, flags)
        chosen = Mixes(names, self._gate_shares(posteriors, membership), prototypes)
        fused = self.fusion(vectors, weights, chosen, present)
        return self.outputs(
            self.head(fused.vector),
            fused.vector,
            present,
            vectors=vectors,
            posteriors=Stacked(names, posteriors),
            gates=fused.gates,
            weights=weights,
            state=state | {"vectors": stacked, "posteriors": posteriors},
        )

    def _prototypes(self) -> tuple[Float[Tensor, "m k d"], Bool[Tensor, "m k"]]:
        banks = [self.banks[name] for name in self.task.modalities]
        prototypes = torch.stack([bank.prototypes for bank in banks])  # type: ignore[misc]
        return prototypes, torch.stack([bank.initialised for bank in banks])  # type: ignore[misc]

    def _joint(
        self, posteriors: Float[Tensor, "m n k"], here: Float[Tensor, "m n 1"], weights: Float[Tensor, " m"]
    ) -> Float[Tensor, "n k"]:
        """The posterior of the modalities present, weighted by alpha; the class prior where there are none."""
        shares = weights.view(-1, 1, 1) * here
        # no weight is anywhere near as small as the prior's, so that it decides only where it is alone; a bound and no
        # sum, from which the simplification of exported graphs would drop a number as small as this
        total, joint = shares.sum(0).clamp(min=_TRACE), (shares * posteriors).sum(0)
        return torch.add(joint, self.class_prior, alpha=_TRACE) / total

    def _gate_shares(
        self, posteriors: Float[Tensor, "m n k"], membership: Float[Tensor, "n k"] | None
    ) -> Float[Tensor, "m n k"]:
        """Of which prototypes the c_y of eq. 12 is the mix."""
        if membership is not None:
            return membership.expand_as(posteriors)
        if self.config.gate_prototype == "hard":
            return torch.zeros_like(posteriors).scatter_(2, posteriors.argmax(2, keepdim=True), 1.0)
        return posteriors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """Eq. 15: "class", "score", "intra", "inter"."""
        assert batch.labels is not None
        config, names, state = self.config, self.task.modalities, outputs.state
        membership = self.task.membership(batch.labels)
        state["membership"] = membership
        losses = task_losses(
            outputs.logits,
            outputs.score,
            batch.labels,
            membership,
            class_weight=config.class_weight,
            score_weight=config.score_weight,
        )
        counted = membership.expand_as(state["logs"])
        rows: float | Tensor = max(1, len(batch))
        if "present" in state:
            counted = counted * state["present"].unsqueeze(2)
            rows = state["present"].sum(1).clamp(min=1)
        targets = counted if self._complete else counted * state["initialised"].unsqueeze(1)
        intra_values = (targets * state["logs"]).sum((1, 2)) / -rows  # eq. 3
        outputs.details |= {
            f"intra/{name}": value for name, value in zip(names, intra_values.detach().unbind(), strict=True)
        }
        aligned = config.alignment and len(names) > 1 and self._steps % config.alignment_interval == 0
        with torch.set_grad_enabled(aligned and torch.is_grad_enabled()):
            blended, started = self._blend(outputs, counted)
        weight = config.alignment_weight * config.alignment_interval
        inter = weight * self._inter(outputs, blended, started) if aligned else None
        weighted = state["weights"] * intra_values if config.calibration else None
        return losses | align_losses(weighted, inter, config.mu)

    def _blend(
        self, outputs: Outputs, membership: Float[Tensor, "m n k"]
    ) -> tuple[Float[Tensor, "m k d"], Bool[Tensor, "m k"]]:
        """The prototypes after this batch, eq. 2, with the gradient that `prototype_gradient` asks for."""
        state = outputs.state
        prototypes, initialised = state["prototypes"], state["initialised"]
        centroids, counts = class_centroids(state["vectors"], membership)
        seen = counts > 0
        if self._complete:
            share = seen * (1 - self.config.momentum)
        else:
            share = seen * torch.where(initialised, 1 - self.config.momentum, 1.0)
            initialised = initialised | seen
        blended = torch.lerp(prototypes, centroids, share.unsqueeze(2))
        state |= {"next_prototypes": blended.detach(), "next_initialised": initialised}
        if blended.requires_grad and self.config.prototype_gradient == "straight_through":
            blended = blended.detach() + (centroids - centroids.detach()) * seen.unsqueeze(2)
        return blended, initialised

    def _inter(
        self, outputs: Outputs, prototypes: Float[Tensor, "m k d"], initialised: Bool[Tensor, "m k"]
    ) -> Float[Tensor, ""]:
        """Eq. 9 over the modalities that occur in the batch and the classes that each of them has a prototype of.

        The prototypes of a modality that does not occur stand still, and nobody is to follow them: one that the
        equilibrium has closed keeps those of an encoder that has learned nothing.
        """
        config, state = self.config, outputs.state
        self._complete = self._complete or bool(initialised.all())
        names, chosen = self.task.modalities, list(range(len(self.task.modalities)))
        if "present" in state:
            chosen = state["present"].any(1).nonzero().flatten().tolist()
        common = prototypes[chosen]
        if not self._complete:
            common = common[:, initialised[chosen].all(0)]
        if len(chosen) < 2 or common.shape[1] < 2:
            return prototypes.sum() * 0.0
        solves = self._solves([names[index] for index in chosen])
        terms = alignment_terms(
            {names[index]: part for index, part in zip(chosen, common.unbind(), strict=True)},
            config.regularization,
            config.consistency,
            config.structure,
            marginals=config.marginals,
            relaxation=config.relaxation,
            potentials=(self.row_potentials[solves], self.column_potentials[solves]) if self._complete else None,
        )
        if self._complete and terms.potentials is not None:
            rows, columns = terms.potentials
            index = torch.tensor(solves, device=self.row_potentials.device)
            state["row_potentials"] = self.row_potentials.index_copy(0, index, rows)
            state["column_potentials"] = self.column_potentials.index_copy(0, index, columns)
        outputs.details |= {f"inter/{m}+{n}": value.detach() for (m, n), value in terms.pairs.items()}
        return terms.loss

    def _solves(self, names: Sequence[str]) -> list[int]:
        """Which of the transport problems are between the modalities named."""
        found = [index for index, pair in enumerate(self.pairs) if set(pair) <= set(names)]
        if self.config.marginals == "source":
            found += [index + len(self.pairs) for index in found]
        return found

    @torch.no_grad()
    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Move prototypes (eq. 2) and modality weights (eq. 10) by a training batch."""
        state = outputs.state
        self._steps += 1
        prototypes, initialised = state["next_prototypes"], state["next_initialised"]
        # in place: no graph holds the banks themselves, a step reads them through a copy
        for index, name in enumerate(self.task.modalities):
            self.banks[name].prototypes.copy_(prototypes[index])  # type: ignore[operator]
            if initialised is not state["initialised"]:
                self.banks[name].initialised.copy_(initialised[index])  # type: ignore[operator]
        self._complete = self._complete or bool(initialised.all())
        self.weighting.blend(state["posteriors"], state["membership"], state.get("present"))
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
