"""GCNet (Lian, Chen, Sun, Liu, Tao 2023, "GCNet: Graph Completion Network for Incomplete Multimodal Learning in
Conversation", IEEE TPAMI).

After the authors' code, since the paper's text was not at hand. What an utterance lacks is completed from the others of
its conversation. A bidirectional LSTM reads the vectors of the modalities, side by side and zero where absent: U. Two
graphs connect each utterance i with those j from `past` places before it to `future` places behind it, itself
included. Their edges have relations r: past, now and future in the one, speakers in the other. For each graph,

    A_i = W U_i + sum_r mean_{j in N_r(i)} W_r U_j          B_i = W_1 A_i + sum_{j in N(i)} W_2 A_j

and h_i is the sum over both of ReLU(linear(LSTM([U, B])_i)). From h come the prediction and all features. In training
each modality of an utterance is hidden with probability `masking`, never all of them, and

    L = L_task + L_rec,     L_rec = 1/N sum_i sum_{m hidden in i} |x^_im - x_im|^2 / d_m.

Ours, where the published code goes another way:

- The speaker relations are "the same" and "another one" (not one per pair of names, which new speakers do not have). An
  unknown speaker counts as the same, so that data without speakers have one relation, as there.
- x are the means over time of the standardised features, or the encoder's vectors of a fine-tuned language model.
- The LSTM behind a graph has the size of the first one (not of its input), and the optional attention over the
  conversation is left out. LSTMs do not read padding.
- Nothing is hidden in evaluation but what is absent. An absent modality has no part in L_rec. An utterance without any
  modality is no part of the conversation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pase_msa.batch import Batch, Outputs, TensorState
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.layout import resample
from pase_msa.models.base import Model, of_coalitions
from pase_msa.models.conversation import Conversations
from pase_msa.objective import Losses, task_losses
from pase_msa.ranges import NOT_NEGATIVE, PROPER_SHARE, SIZE, Range, check_model
from pase_msa.task import Task

_WINDOW = Range(0, 2**16, whole=True)
_RELATIONS = {"temporal": 3, "speaker": 2}


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the modality vectors.
        hidden: size of the LSTMs' states, per direction.
        graph: size of the vectors in the graphs.
        past: utterances before an utterance that have an edge to it.
        future: utterances behind it that have one.
        masking: probability that a modality is hidden in training, beside modality dropout.
        reconstruction: weight of L_rec.
        dropout: in and behind the LSTMs.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "gcnet"
    width: int = 128
    hidden: int = 100
    graph: int = 100
    past: int = 2
    future: int = 2
    masking: float = 0.3
    reconstruction: float = 1.0
    dropout: float = 0.5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(
            self,
            hidden=SIZE,
            graph=SIZE,
            past=_WINDOW,
            future=_WINDOW,
            masking=PROPER_SHARE,
            reconstruction=NOT_NEGATIVE,
        )


def temporal_relations(conversations: Conversations, past: int, future: int) -> Bool[Tensor, "3 n n"]:
    """Whether utterance j lies before i, is i, or lies behind i, within the window of i; [relation, i, j]."""
    offset = conversations.offset()
    near = conversations.same & (offset >= -past) & (offset <= future)
    return torch.stack([near & (offset < 0), near & (offset == 0), near & (offset > 0)])


def speaker_relations(edges: Bool[Tensor, "n n"], speakers: Int[Tensor, " n"] | None) -> Bool[Tensor, "2 n n"]:
    """Edges within a speaker, or with an unknown one, and edges between two; [relation, i, j]."""
    if speakers is None:
        return torch.stack([edges, torch.zeros_like(edges)])
    known = speakers >= 0
    other = (speakers.unsqueeze(0) != speakers.unsqueeze(1)) & known.unsqueeze(0) & known.unsqueeze(1)
    return torch.stack([edges & ~other, edges & other])


class RelationalGraph(nn.Module):
    """The two graph layers: means per relation, then sums over all neighbours.

    Args:
        inputs: size F of what the utterances have.
        width: size G of the result.
        relations: number R of relations.
    """

    def __init__(self, inputs: int, width: int, relations: int) -> None:
        super().__init__()
        self.root = nn.Linear(inputs, width)
        self.relations = nn.ModuleList(nn.Linear(inputs, width, bias=False) for _ in range(relations))
        self.own = nn.Linear(width, width)
        self.neighbours = nn.Linear(width, width, bias=False)

    def forward(self, inputs: Float[Tensor, "n f"], edges: Bool[Tensor, "r n n"]) -> Float[Tensor, "n g"]:
        """B from U; there is no nonlinearity."""
        weights = edges.to(inputs.dtype)
        means = weights / weights.sum(2, keepdim=True).clamp(min=1)
        first = self.root(inputs)
        for mean, relation in zip(means, self.relations, strict=True):
            first = first + mean @ relation(inputs)
        result: Tensor = self.own(first) + weights.sum(0) @ self.neighbours(first)
        return result


class Branch(nn.Module):
    """A graph and what stands behind it."""

    def __init__(self, inputs: int, config: Config, relations: int) -> None:
        super().__init__()
        joint = inputs + config.graph
        self.graph = RelationalGraph(inputs, config.graph, relations)
        self.recurrent = _lstm(joint, config)
        self.output = nn.Sequential(nn.Linear(2 * config.hidden, joint), nn.ReLU())

    def forward(self, context: Tensor, edges: Tensor, conversations: Conversations) -> Float[Tensor, "n f"]:
        """h of one graph."""
        joined = torch.cat([context, self.graph(context, edges)], dim=1)
        result: Tensor = self.output(conversations.recur(self.recurrent, joined))
        return result


class GCNet(Model):
    """Encoders, the context of the conversation, two graphs, the head, and the completion of features."""

    conversations = True

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.context = _lstm(config.width * len(task.modalities), config)
        self.branches = nn.ModuleDict({n: Branch(2 * config.hidden, config, r) for n, r in _RELATIONS.items()})
        size = 2 * config.hidden + config.graph
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(size, task.num_classes)
        # token ids are no features; in their place stand the vectors of the language model that reads them
        self.complete = nn.ModuleDict({n: nn.Linear(size, spec.dim or config.width) for n, spec in inputs.items()})

    def network(self, batch: Batch) -> Outputs:
        """One pass; in training with modalities hidden at random."""
        vectors, present = self.encode(batch)
        return self._outputs(batch, vectors, present, self._shown(present) if self.training else present)

    def network_coalitions(self, batch: Batch, coalitions: Sequence[frozenset[str]]) -> list[Outputs]:
        """Outputs with only the named modalities; each utterance is encoded once."""
        shown = of_coalitions(*self.encode(batch), coalitions)
        return [self._outputs(batch, vectors, flags, flags) for vectors, flags in shown]

    def _shown(self, present: Mapping[str, Bool[Tensor, " n"]]) -> dict[str, Bool[Tensor, " n"]]:
        """Presence less what is hidden; an utterance never loses its last modality."""
        flags = torch.stack(list(present.values()))
        kept = flags & (torch.rand(flags.shape, device=flags.device) >= self.config.masking)
        return dict(zip(present, torch.where(kept.any(0), kept, flags).unbind(), strict=True))

    def _outputs(
        self,
        batch: Batch,
        vectors: dict[str, Tensor],
        present: dict[str, Bool[Tensor, " n"]],
        shown: Mapping[str, Bool[Tensor, " n"]],
    ) -> Outputs:
        there = torch.stack(list(present.values())).any(0)
        conversations = Conversations.of(batch, there)
        edges = {"temporal": temporal_relations(conversations, self.config.past, self.config.future)}
        edges["speaker"] = speaker_relations(edges["temporal"].any(0), batch.speakers)
        joint = torch.cat([vectors[name] * shown[name].unsqueeze(1) for name in self.task.modalities], dim=1)
        context = self.dropout(conversations.recur(self.context, joint))
        hidden = torch.stack([b(context, edges[name], conversations) for name, b in self.branches.items()]).sum(0)
        hidden = self.dropout(hidden)
        lost = TensorState({name: present[name] & ~shown[name] for name in present})
        return self.outputs(self.head(hidden), hidden, present, vectors=vectors, state=lost)

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task and "reconstruction"."""
        assert batch.labels is not None
        assert isinstance(outputs.state, TensorState)
        config = self.config
        losses = task_losses(
            outputs.logits,
            outputs.score,
            batch.labels,
            self.task.membership(batch.labels),
            class_weight=config.class_weight,
            score_weight=config.score_weight,
        )
        errors = []
        for name, hidden in outputs.state.tensors.items():
            error = (self.complete[name](outputs.fused) - self._features(name, outputs, batch)).square().mean(1)
            errors.append(error * hidden)
        losses["reconstruction"] = config.reconstruction * torch.stack(errors).sum(0).mean()
        return losses

    def _features(self, name: str, outputs: Outputs, batch: Batch) -> Float[Tensor, "n d"]:
        """What is to be completed, x of a modality."""
        if name not in self.scalers:
            return outputs.vectors[name].detach()
        return resample(self.scalers[name](batch.features[name]), batch.lengths[name], 1)[:, 0]


def _lstm(inputs: int, config: Config) -> nn.LSTM:
    return nn.LSTM(inputs, config.hidden, 2, batch_first=True, dropout=config.dropout, bidirectional=True)


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> GCNet:
    """The plug-in's entry point."""
    return GCNet(task, inputs, config)
