"""MoMKE (Xu, Jiang, Liang 2024, "Leveraging Knowledge of Modality Experts for Incomplete Multimodal Learning", ACM MM).

After the authors' code, since the paper's text was not at hand. Each modality m has a transformer E_m, its expert, over
the utterances of a conversation, without layer norm. In the first stage each expert learns by itself, from its own
modality, with a head of its own. In the second stage every modality goes through all of them, and a router mixes what
they say, so that a modality has the use of what the others' experts know:

    stage 1:  y_m = head_m(E_m(x_m)),           L = sum_m L_task(y_m) over the utterances that have m
    stage 2:  z_m = sum_e r_me E_e(x_m),        r_m = softmax(router(x_m)),        z_m = 0 where m is absent
              y = head(u + MLP(u)), u = [z_1, ..., z_k],            L = L_task(y)

Ours, where the published code goes another way:

- One model is trained for all patterns of absent modalities, by modality dropout (not one per pattern, which is the
  same in training as in the test). It also hides modalities in the first stage.
- The number of epochs of the first stage is an option (not half of all). Until they are over, the prediction is the
  mean of the logits y_m of the modalities present, so that every epoch can be selected.
- An utterance attends to those of its conversation that have the modality; where it lacks it, it is not attended to.
- The vectors are those of the library's encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs, TensorState
from pase_msa.data.inputs import InputSpec
from pase_msa.errors import PaSEError
from pase_msa.models.base import Model, of_coalitions
from pase_msa.models.conversation import Conversations
from pase_msa.objective import Losses, soft_cross_entropy, task_losses
from pase_msa.ranges import SIZE, Range, check_model
from pase_msa.task import Task


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size D of the vectors; a multiple of `heads`.
        heads: of the experts' attention.
        layers: of an expert.
        unimodal_epochs: epochs of the first stage.
        dropout: in the experts and before the heads.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "momke"
    width: int = 128
    heads: int = 2
    layers: int = 4
    unimodal_epochs: int = 10
    dropout: float = 0.5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, heads=SIZE, layers=SIZE, unimodal_epochs=Range(0, 2**31 - 1, whole=True))
        if self.width % self.heads:
            raise PaSEError(
                f"model.width of momke is a multiple of model.heads, found {self.width} and {self.heads}; change one."
            )


def mix(parts: Float[Tensor, "e n d"], weights: Float[Tensor, "n e"]) -> Float[Tensor, "n d"]:
    """What the experts say of each utterance, weighted by the router."""
    return torch.einsum("end,ne->nd", parts, weights)


class Block(nn.Module):
    """Attention and a feed-forward part, each added to what it was given; there is no layer norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width), nn.Dropout(dropout)
        )

    def forward(self, inputs: Float[Tensor, "n d"], seen: Bool[Tensor, "n n"]) -> Float[Tensor, "n d"]:
        """Each utterance attends to those that it sees."""
        n, width = inputs.shape
        query, key, value = self.project(inputs).view(n, 3, self.heads, -1).permute(1, 2, 0, 3)
        rate = self.dropout if self.training else 0.0
        # one sequence, as a batch of one: an export knows attention in four dimensions only
        query, key, value = (part.unsqueeze(0) for part in (query, key, value))
        given = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, dropout_p=rate)[0]
        inputs = inputs + self.output(given.transpose(0, 1).reshape(n, width))
        result: Tensor = inputs + self.feed(inputs)
        return result


class Transformer(nn.Module):
    """An expert: blocks, one behind the other."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.dropout) for _ in range(config.layers))

    def forward(self, inputs: Tensor, seen: Tensor) -> Float[Tensor, "n d"]:
        """E(x)."""
        for block in self.blocks:
            inputs = block(inputs, seen)
        return inputs


class MoMKE(Model):
    """Encoders, a transformer and a head per modality, routers, and the joint head."""

    conversations = True
    epoch: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        names, width, joint = task.modalities, config.width, config.width * len(task.modalities)
        self.experts = nn.ModuleDict({name: Transformer(config) for name in names})
        self.heads = nn.ModuleDict(
            {n: nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, task.num_classes)) for n in names}
        )
        self.routers = nn.ModuleDict(
            {n: nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, len(names))) for n in names}
        )
        self.residual = nn.Sequential(
            nn.Linear(joint, joint), nn.ReLU(), nn.Dropout(config.dropout), nn.Linear(joint, joint)
        )
        self.head = nn.Linear(joint, task.num_classes)
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))

    def begin_epoch(self) -> None:
        """Count the epochs."""
        self.epoch += 1

    @property
    def joint_stage(self) -> Bool[Tensor, ""]:
        """Whether the second stage has begun."""
        return self.epoch > self.config.unimodal_epochs

    def network(self, batch: Batch) -> Outputs:
        """One pass."""
        vectors, present = self.encode(batch)
        return self._outputs(vectors, present, self._unimodal(batch, vectors, present))

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities; each utterance is encoded and read by the experts once."""
        vectors, present = self.encode(batch)
        said = self._unimodal(batch, vectors, present)
        return [self._outputs(*shown, said) for shown in of_coalitions(vectors, present, coalitions)]

    def _unimodal(
        self, batch: Batch, vectors: dict[str, Tensor], present: dict[str, Bool[Tensor, " n"]]
    ) -> dict[str, tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]]:
        """For each modality the mix of its experts, and the logits of its own one; no other modality has a say."""
        result = {}
        for name in self.task.modalities:
            seen = Conversations.of(batch, present[name]).same
            said = {other: expert(vectors[name], seen) for other, expert in self.experts.items()}
            weights = self.routers[name](vectors[name]).softmax(1)
            result[name] = mix(torch.stack(list(said.values())), weights), self.heads[name](said[name])
        return result

    def _outputs(
        self,
        vectors: dict[str, Tensor],
        present: dict[str, Bool[Tensor, " n"]],
        said: dict[str, tuple[Tensor, Tensor]],
    ) -> Outputs:
        mixed = [said[name][0] * present[name].unsqueeze(1) for name in said]
        logits = {name: own for name, (_, own) in said.items()}
        fused = torch.cat(mixed, dim=1)
        joint = self.head(fused + self.residual(fused))
        flags = torch.stack([present[name] for name in logits]).unsqueeze(2)
        mean = (torch.stack(list(logits.values())) * flags).sum(0) / flags.sum(0).clamp(min=1)
        state = TensorState({"joint": joint, **{f"unimodal/{name}": value for name, value in logits.items()}})
        prediction = torch.where(self.joint_stage, joint, mean)
        return self.outputs(prediction, fused, present, vectors=vectors, state=state)

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, which is zero in the first stage, and "unimodal/NAME", which are zero in the second."""
        assert batch.labels is not None
        assert isinstance(outputs.state, TensorState)
        config, tensors, second = self.config, outputs.state.tensors, self.joint_stage.float()
        membership = self.task.membership(batch.labels)

        def score(logits: Tensor) -> Tensor | None:
            return None if self.task.values is None else self.task.score(logits.softmax(1))

        # a weight of zero, and not a branch: each parameter has a gradient in both stages
        joint = task_losses(
            tensors["joint"],
            score(tensors["joint"]),
            batch.labels,
            membership,
            class_weight=config.class_weight,
            score_weight=config.score_weight,
        )
        losses = {name: second * value for name, value in joint.items()}
        for name, here in outputs.present.items():
            logits = tensors[f"unimodal/{name}"]
            value = config.class_weight * soft_cross_entropy(logits, membership)
            if (own := score(logits)) is not None:
                value = value + config.score_weight * (own - batch.labels).abs()
            losses[f"unimodal/{name}"] = (1 - second) * (value * here).sum() / here.sum().clamp(min=1)
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, head and router; an expert serves all modalities."""
        modules = (self.encoders, self.heads, self.routers)
        return [parameter for module in modules for parameter in module[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MoMKE:
    """The plug-in's entry point."""
    return MoMKE(task, inputs, config)
