"""GLoMo (Zhuang et al. 2024, "GLoMo: Global-Local Modal Fusion for Multimodal Sentiment Analysis", ACM MM).

Evidence may lie in a short stretch of an utterance. So each modality has a global vector g_m, and n local ones, each
the maximum over a stretch of its frames, which experts condense to one vector l_m:

    l_m = sum_e G_e E_e(x),  x = the locals side by side,  G = softmax over the `active` largest of h, otherwise 0
    h = x W_g + noise softplus(x W_n) + .01 noise in training, and x W_g in evaluation

A transformer over g_m and l_m of all modalities gives Z^g_m and Z^l_m, and two gates give weights of the modalities,
w^g = softmax_m(U (Z^g_1, Z^g_2, ...) / sqrt(d)) and w^l alike. The prediction is a linear map of

    Z_1 = F [sum_m w^g_m Z^g_m; sum_m w^l_m Z^l_m]   and   Z_2 = sum_m w^g_m F_m [Z^g_m; Z^l_m]

The loss "balance" spreads utterances over the experts of a modality: the squared coefficients of variation of what
each expert is given ("importance") and of how probably it is chosen under new noise ("load", Shazeer et al. 2017).

After the authors' appendix and code. Ours, where they go another way:

- The frames are those of the library's encoders, which shorten long sequences. A global vector is the maximum over
  them, as in the paper, and for a fine-tuned language model its pooled state. Of a language model only the last layer
  is read; the authors also take stretches of the layer before.
- The experts are mixed as the paper says; the published code takes the logarithm of a mixture of exponentials. The
  normal distribution of the load has mean 0, not .1. Prediction and L_task are those of every model here.
- A stretch ends with the utterance's own frames, not with the padding. An absent modality has no token in the
  transformer, no weight in a gate, and no part in "balance".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.data.pretrained import pool_tokens
from pase_msa.encoders.language_model import LanguageModelEncoder
from pase_msa.encoders.layout import max_pool
from pase_msa.errors import PaSEError
from pase_msa.models.fused import Fused, FusedModel, check_frames
from pase_msa.objective import Losses
from pase_msa.ranges import COUNT, NOT_NEGATIVE, PROPER_SHARE, SIZE, Range, check_model
from pase_msa.task import Task

_LEAST_NOISE, _EPSILON = 1e-2, 1e-10


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size d of all vectors; a multiple of the heads.
        stretches: n, the local vectors of a modality.
        experts: of a modality.
        active: experts that an utterance goes to.
        heads: of the attention; 0 is the largest number up to 16 that divides the width.
        layers: of the transformer over globals and locals.
        feedforward: size of its feed-forward parts.
        dropout: in the transformer.
        gate_dropout: in the gates over modalities.
        balance: weight of the spread over experts.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "glomo"
    width: int = 48
    stretches: int = 3
    experts: int = 3
    active: int = 2
    heads: int = 0
    layers: int = 2
    feedforward: int = 2048
    dropout: float = 0.1
    gate_dropout: float = 0.3
    balance: float = 0.01
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, stretches=SIZE, experts=SIZE, active=SIZE, heads=Range(0, 2**16, whole=True), layers=COUNT)
        check_model(self, feedforward=SIZE, gate_dropout=PROPER_SHARE, balance=NOT_NEGATIVE)
        if self.active > self.experts:
            raise PaSEError(f"model.active of glomo is at most model.experts ({self.experts}), found {self.active}.")
        self.heads = self.heads or next(heads for heads in range(16, 0, -1) if not self.width % heads)
        if self.width % self.heads:
            raise PaSEError(f"model.width of glomo is a multiple of model.heads ({self.heads}), found {self.width}.")


def top_gates(logits: Float[Tensor, "n e"], active: int) -> Float[Tensor, "n e"]:
    """G: the softmax over the `active` largest logits of each row, 0 for the others."""
    largest, places = logits.topk(active, dim=1)
    return torch.zeros_like(logits).scatter(1, places, largest.softmax(1))


def load_probability(
    clean: Float[Tensor, "n e"], noisy: Float[Tensor, "n e"], scale: Float[Tensor, "n e"], active: int
) -> Float[Tensor, "n e"]:
    """The probability that an expert is among the `active` largest once its own noise is drawn anew.

    It must pass the largest of those that would then stand behind it: the logit number `active` + 1 if it is among the
    `active` now, and number `active` if it is not.

    Args:
        clean: logits without noise, of more experts than `active`.
        noisy: logits with noise of the standard deviation `scale`.
        scale: of the noise.
        active: number of experts that are chosen.
    """
    largest = noisy.topk(active + 1, dim=1).values
    threshold = torch.where(noisy > largest[:, active:], largest[:, active:], largest[:, active - 1 : active])
    probability: Tensor = torch.special.ndtr((clean - threshold) / scale)
    return probability


def squared_variation(values: Float[Tensor, " e"]) -> Float[Tensor, ""]:
    """The squared coefficient of variation: unbiased variance over squared mean; 0 of a single value."""
    variance = values.var() if len(values) > 1 else values.sum() * 0.0
    result: Tensor = variance / (values.mean().square() + _EPSILON)
    return result


class SparseExperts(nn.Module):
    """The experts for the locals of one modality, and their gate, which knows no difference between them at first."""

    def __init__(self, width: int, stretches: int, experts: int, active: int) -> None:
        super().__init__()
        self.active = active
        self.gate = nn.Parameter(torch.zeros(stretches * width, experts))  # W_g
        self.noise = nn.Parameter(torch.zeros(stretches * width, experts))  # W_n
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(stretches * width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(experts)
        )

    def forward(self, x: Float[Tensor, "n x"]) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture l_m [N, d], the gates, and the probability of being chosen, both [N, E]."""
        clean = x @ self.gate
        logits, scale = clean, F.softplus(x @ self.noise) + _LEAST_NOISE
        if self.training:
            logits = clean + torch.randn_like(clean) * scale
        gates = top_gates(logits, self.active)
        if self.training and self.active < len(self.experts):
            load = load_probability(clean, logits, scale, self.active)
        else:  # nothing is left to chance; the scale has its part so that it has a gradient, which is zero
            load = (gates > 0).to(gates.dtype) + 0.0 * scale
        mixed = (gates.unsqueeze(2) * torch.stack([expert(x) for expert in self.experts], dim=1)).sum(1)
        return mixed, gates, load


class ModalityGate(nn.Module):
    """Weights of the present modalities, from all of their vectors."""

    def __init__(self, modalities: int, width: int, dropout: float) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(modalities * width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, modalities)
        )

    def forward(self, vectors: Float[Tensor, "n k d"], here: Bool[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Weights that add up to 1; `vectors` are zero where a modality is absent, and its weight is 0."""
        scores = self.score(vectors.flatten(1)) / vectors.shape[2] ** 0.5
        weights: Tensor = scores.masked_fill(~here, torch.finfo(scores.dtype).min).softmax(1) * here
        return weights


class GLoMo(FusedModel):
    """Frames, globals and locals, experts, the transformer over all, and the two fused vectors."""

    has_vectors = False
    config: Config

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        check_frames("glomo", self.encoders, inputs)
        names, width, gated = task.modalities, config.width, (len(task.modalities), config.width, config.gate_dropout)
        options = (width, config.stretches, config.experts, config.active)
        self.experts = nn.ModuleDict({name: SparseExperts(*options) for name in names})
        self.transformer = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.heads, config.feedforward, config.dropout, batch_first=True)
            for _ in range(config.layers)
        )
        self.global_gate, self.local_gate = ModalityGate(*gated), ModalityGate(*gated)
        self.join = nn.Linear(2 * width, width)  # F
        self.join_own = nn.ModuleDict({name: nn.Linear(2 * width, width) for name in names})  # F_m
        self.head = nn.Linear(2 * width, task.num_classes)

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """The global vector and, behind it, the locals of each modality, [N, 1 + n, d], and presence."""
        frames, valid, present = self.encode_frames(batch)
        parts = {}
        for name, states in frames.items():
            encoder, lengths = self.encoders[name], valid[name].sum(1)
            if isinstance(encoder, LanguageModelEncoder):
                whole = pool_tokens(states, valid[name], encoder.pooling).unsqueeze(1)
            else:
                whole = max_pool(states, lengths, 1)
            parts[name] = torch.cat([whole, max_pool(states, lengths, self.config.stretches)], dim=1)
        return parts, present

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """Z_1 and Z_2 side by side; and the gates and loads of the experts and the weights of the modalities."""
        names, tensors, local = self.task.modalities, {}, []
        for name in names:
            vector, tensors[f"gate/{name}"], tensors[f"load/{name}"] = self.experts[name](parts[name][:, 1:].flatten(1))
            local.append(vector)
        whole, short = torch.stack([parts[name][:, 0] for name in names], dim=1), torch.stack(local, dim=1)
        here = torch.stack([present[name] for name in names], dim=1)
        both = torch.cat([here, here], dim=1)
        tokens = torch.cat([whole, short], dim=1)
        for layer in self.transformer:
            # a row without any modality attends to all tokens, since a softmax over nothing is not defined
            tokens = layer(tokens, src_key_padding_mask=~(both | ~both.any(1, keepdim=True)))
        whole, short = (tokens * both.unsqueeze(2)).chunk(2, dim=1)  # Z^g, Z^l
        weights, local_weights = self.global_gate(whole, here), self.local_gate(short, here)
        sums = [(w.unsqueeze(2) * z).sum(1) for w, z in ((weights, whole), (local_weights, short))]
        own = [self.join_own[name](torch.cat([whole[:, i], short[:, i]], dim=1)) for i, name in enumerate(names)]
        blend = (weights.unsqueeze(2) * torch.stack(own, dim=1)).sum(1)  # Z_2
        return torch.cat([self.join(torch.cat(sums, dim=1)), blend], dim=1), tensors | {"weights": weights}

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task and "balance"."""
        losses, tensors = super().losses(outputs, batch), self.tensors(outputs)
        present = {f"{kind}/{n}": here.unsqueeze(1) for kind in ("gate", "load") for n, here in outputs.present.items()}
        terms = [squared_variation((tensors[key] * here).sum(0)) for key, here in present.items()]
        losses["balance"] = self.config.balance * torch.stack(terms).sum()
        return losses

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """Encoder, experts and the map of the modality's own blend."""
        return [p for part in (self.encoders, self.experts, self.join_own) for p in part[modality].parameters()]


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> GLoMo:
    """The plug-in's entry point."""
    return GLoMo(task, inputs, config)
