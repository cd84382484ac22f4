"""MFON (Zhang, Wei, Zou 2025, "Modal Feature Optimization Network with Prompt for Multimodal Sentiment Analysis",
COLING).

After the authors' code, since the paper's text was not at hand. An anchor (text) asks every other modality m by
cross attention, whose keys and values are the frames with a learned prompt per position, X_m + Q_m. What it gets is
the vector x_m; the head reads x_m of all modalities beside the anchor's vector x_t. Two losses are added to L_task:

    distillation:  mean_i KL( softmax(x'_mi) || softmax(x_mi) ), over the coordinates of the vectors
    contrast:      mean_i -log( exp cos(x_mi, x_ti) / sum_j exp cos(x_mi, x_tj) )

x'_m is the vector of a teacher, a network of modality m alone that was trained on the labels and then frozen.

Ours: a teacher is one more of the library's encoders with a layer norm and a head. It learns beside the network in the
first `teacher_epochs` epochs, and is frozen when they are over; until then nothing is distilled. In the paper teachers
are trained before the run, up to their best epoch. The anchor asks by one query, its encoder's vector: the published
code reads only the first position of what the text got, whose other positions take no part in it. No padded frame is
attended to, and there is no causal mask, whose offset depended on the padding. Prompts start small, not with a mean of
one half that outweighs the frames; frames beyond the last prompt have the last one. An absent modality has the vector
zero and no loss, and in place of an absent anchor asks a learned query. Which modalities need help is not measured, in
the published code neither: all but the anchor get it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pase_msa.batch import Batch, Outputs
from pase_msa.data.inputs import InputSpec
from pase_msa.encoders.base import Encoder, build_encoders
from pase_msa.errors import PaSEError
from pase_msa.models.base import head
from pase_msa.models.fused import Fused, FusedModel, anchor_of, check_frames, tapering_head
from pase_msa.models.mult import Transformer, positions
from pase_msa.objective import Losses, present_mean
from pase_msa.ranges import COUNT, NOT_NEGATIVE, SIZE, check_model, check_ranges
from pase_msa.task import Task

_SMALL = 0.02  # deviation of prompts and of the learned query at the start
_EPSILON = 1e-6


@dataclass
class Config:
    """Options.

    Attributes:
        name: of the plug-in.
        width: size of the vectors and frames.
        anchor: the modality that asks the others; None is text, or else the first.
        layers: of every cross attention.
        prompts: positions that have a prompt of their own.
        dropout: in the layers and in the heads.
        teacher_epochs: epochs in which the teachers learn.
        distillation: weight of the divergence from the teachers.
        contrast: weight of the contrast with the anchor.
        class_weight: of the cross-entropy, eq. 16.
        score_weight: of the absolute error of the score (regression).
    """

    name: str = "mfon"
    width: int = 64
    anchor: str | None = None
    layers: int = 2
    prompts: int = 64
    dropout: float = 0.1
    teacher_epochs: int = 5
    distillation: float = 0.5
    contrast: float = 0.5
    class_weight: float = 1.0
    score_weight: float = 1.0

    def __post_init__(self) -> None:
        check_model(self, layers=COUNT, prompts=SIZE, teacher_epochs=COUNT)
        check_ranges(self, "model", distillation=NOT_NEGATIVE, contrast=NOT_NEGATIVE)


class Teacher(nn.Module):
    """An encoder of its own and a layer norm; and a head, by which it learns.

    Args:
        encoder: of one modality.
        width: of its vectors.
        num_classes: K.
        dropout: in the head.
    """

    def __init__(self, encoder: nn.Module, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.encoder, self.norm, self.head = encoder, nn.LayerNorm(width), head(width, num_classes, dropout)

    def forward(self, features: Tensor, lengths: Int[Tensor, " n"], scaler: nn.Module | None) -> Float[Tensor, "n d"]:
        """Vectors of padded sequences."""
        assert isinstance(self.encoder, Encoder)
        encoded = self.encoder(features, lengths) if scaler is None else self.encoder.scaled(features, lengths, scaler)
        vectors: Tensor = self.norm(encoded.to(self.norm.weight.dtype))
        return vectors


def vector_divergence(teacher: Float[Tensor, "n d"], student: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """KL( softmax(teacher) || softmax(student) ) over the coordinates, by row."""
    return F.kl_div(student.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True).sum(1)


def anchor_contrast(
    vectors: Float[Tensor, "n d"], anchors: Float[Tensor, "n d"], here: Bool[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Mean of -log softmax_j cos(x_i, t_j) at j = i, over the rows marked by `here`, among them; 0 without any."""
    cosine = F.normalize(vectors, dim=1, eps=_EPSILON) @ F.normalize(anchors, dim=1, eps=_EPSILON).T
    among = cosine.masked_fill(~here.unsqueeze(0), torch.finfo(cosine.dtype).min)
    return present_mean(among.logsumexp(1) - cosine.diagonal(), here)


class MFON(FusedModel):
    """The anchor's vector, cross attention to prompted frames of the others, and the head; teachers beside it.

    Attributes:
        anchor: the modality that asks.
        epoch: number of the epoch, counted from 1.
        distils: whether the teachers are frozen.
    """

    config: Config
    epoch: Tensor

    def __init__(self, task: Task, inputs: Mapping[str, InputSpec], config: Config) -> None:
        super().__init__(task, inputs, config.width)
        self.config = config
        self.anchor = anchor_of(task, config.anchor, "mfon")
        weak = {name: spec for name, spec in inputs.items() if name != self.anchor}
        check_frames("mfon", nn.ModuleDict({name: self.encoders[name] for name in weak}), inputs)
        width, dropout = config.width, config.dropout
        heads = next(heads for heads in range(8, 0, -1) if not width % heads)
        self.prompts = nn.ModuleDict({name: nn.Embedding(config.prompts, width) for name in weak})
        self.cross = nn.ModuleDict(
            {name: Transformer(width, heads, config.layers, dropout, dropout, expansion=1) for name in weak}
        )
        for table in self.prompts.parameters():
            nn.init.normal_(table, std=_SMALL)
        self.query = nn.Parameter(torch.randn(width) * _SMALL) if weak else None
        own, classes = build_encoders(weak, width), task.num_classes
        self.head = tapering_head(width * len(inputs), (width, width // 2, width // 8), classes, dropout)
        self.teachers = nn.ModuleDict({name: Teacher(part, width, classes, dropout) for name, part in own.items()})
        for name, value in self.teachers.named_parameters():
            self.register_buffer(_frozen(name), value.detach().clone())
        self.register_buffer("epoch", torch.zeros((), dtype=torch.long))
        self.distils = False

    def begin_epoch(self) -> None:
        """Count the epochs, and freeze the teachers when theirs are over."""
        self.epoch += 1
        past = int(self.epoch) - self.config.teacher_epochs
        self.distils = past > 0
        if past == 1:
            for name, value in self.teachers.named_parameters():
                self.get_buffer(_frozen(name)).copy_(value.detach())

    def encode_parts(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Bool[Tensor, " n"]]]:
        """The anchor's vector, [N, D]; frames of the others with a last column that is 1 at valid steps; presence."""
        frames, valid, present = self.encode_frames(batch, list(self.cross))
        if self.anchor not in batch.features:
            raise PaSEError(f"The model needs the modality {self.anchor!r}; the batch has {list(batch.features)}.")
        parts = {name: torch.cat([part, valid[name].unsqueeze(2)], dim=2) for name, part in frames.items()}
        present[self.anchor] = batch.present[self.anchor]
        parts[self.anchor] = self._vector(self.anchor, batch) * present[self.anchor].unsqueeze(1)
        names = self.task.modalities
        return {name: parts[name] for name in names}, {name: present[name] for name in names}

    def modality_vectors(
        self, parts: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> dict[str, Float[Tensor, "n d"]]:
        """x_m, and the anchor's vector."""
        return {name: tensors[name] for name in parts}

    def fuse(self, parts: Mapping[str, Tensor], present: Mapping[str, Bool[Tensor, " n"]]) -> Fused:
        """The vectors side by side, and each by its name."""
        vectors = {self.anchor: parts[self.anchor]}
        if self.query is not None:
            asked = torch.where(present[self.anchor].unsqueeze(1), parts[self.anchor], self.query)
            query = _placed(asked.unsqueeze(1))
        for name, cross in self.cross.items():
            frames, valid = parts[name][..., :-1], parts[name][..., -1] > 0
            steps = torch.arange(frames.shape[1], device=frames.device).clamp(max=self.config.prompts - 1)
            got = cross(query, valid, _placed(frames + self.prompts[name](steps)))
            vectors[name] = got[:, 0] * present[name].unsqueeze(1)
        return torch.cat([vectors[name] for name in self.task.modalities], dim=1), vectors

    def losses(self, outputs: Outputs, batch: Batch) -> Losses:
        """L_task, "contrast", and "teacher", or "distillation" where the teachers are frozen."""
        losses, vectors, present = super().losses(outputs, batch), self.tensors(outputs), outputs.present
        contrast, taught = [], []
        for name, teacher in self.teachers.items():
            assert isinstance(teacher, Teacher)
            here, vector = present[name], self._taught(name, batch, present[name])
            contrast.append(anchor_contrast(vectors[name], vectors[self.anchor], here & present[self.anchor]))
            if self.distils:
                taught.append(present_mean(vector_divergence(vector, vectors[name]), here))
            else:
                taught.append(self.branch_loss(teacher.head(vector), batch, here))
        if contrast:
            # no teacher's parameter is without a gradient, which would stand in the way of distributed training
            nothing = torch.stack([value.sum() for value in self.teachers.parameters()]).sum() * 0.0
            total = torch.stack(taught).sum()
            losses["contrast"] = self.config.contrast * torch.stack(contrast).sum()
            losses["teacher"] = nothing if self.distils else total + nothing
            if self.distils:
                losses["distillation"] = self.config.distillation * total
        return losses

    def _taught(self, name: str, batch: Batch, here: Bool[Tensor, " n"]) -> Float[Tensor, "n d"]:
        """The vectors of a teacher: as it learns, or as it was frozen, then without dropout and gradient."""
        teacher, scalers = self.teachers[name], dict(self.scalers.items())
        given = (batch.features[name], batch.lengths[name] * here, scalers.get(name))
        with self.encoding(batch.features[name]):
            if not self.distils:
                learning: Tensor = teacher(*given)
                return learning
            frozen = {key: self.get_buffer(_frozen(f"{name}.{key}")) for key, _ in teacher.named_parameters()}
            training = teacher.training
            with torch.no_grad():
                vectors: Tensor = functional_call(teacher.eval(), frozen, given)
            teacher.train(training)
            return vectors

    def modality_parameters(self, modality: str) -> list[nn.Parameter]:
        """The encoder and, of other modalities than the anchor, prompts and cross attention."""
        modules = [self.encoders] if modality == self.anchor else [self.encoders, self.prompts, self.cross]
        return [parameter for module in modules for parameter in module[modality].parameters()]


def _placed(frames: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
    """The frames at the scale and with the positions that a transformer begins with."""
    return frames * float(frames.shape[2] ** 0.5) + positions(frames.shape[1], frames.shape[2]).to(frames)


def _frozen(name: str) -> str:
    """The buffer of a teacher's parameter."""
    return f"frozen_{name.replace('.', '_')}"


def build(task: Task, inputs: Mapping[str, InputSpec], config: Config) -> MFON:
    """The plug-in's entry point."""
    return MFON(task, inputs, config)
