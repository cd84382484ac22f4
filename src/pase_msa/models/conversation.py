"""Which utterances of a batch are of one conversation, for models that read them together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pase_msa.batch import Batch


@dataclass(frozen=True)
class Conversations:
    """The conversations of a batch: utterances that share a video, in the order of their rows.

    An utterance without any modality is by itself: the others do not know that it is there. In training there is none.

    Attributes:
        same: whether two utterances are of one conversation; each is of its own, [N, N].
        place: utterances of its conversation that come before it, [N].
        alone: whether the batch has no videos, so that each utterance is a conversation.
    """

    same: Bool[Tensor, "n n"]
    place: Int[Tensor, " n"]
    alone: bool

    @classmethod
    def of(cls, batch: Batch, there: Bool[Tensor, " n"]) -> Conversations:
        """The conversations of a batch.

        Args:
            batch: whose `videos` and `rows` count; without rows, utterances are in the order of the batch.
            there: whether an utterance has some modality, [N].
        """
        number = torch.arange(there.shape[0], device=there.device)
        videos = number if batch.videos is None else batch.videos
        rows = number if batch.rows is None else batch.rows
        pairs = there.unsqueeze(0) & there.unsqueeze(1) & (videos.unsqueeze(0) == videos.unsqueeze(1))
        same = pairs | (number.unsqueeze(0) == number.unsqueeze(1))
        place = (same & (rows.unsqueeze(0) < rows.unsqueeze(1))).sum(1)
        return cls(same, place, batch.videos is None)

    def offset(self) -> Int[Tensor, "n n"]:
        """How many places utterance j comes after utterance i, [i, j]; of account within a conversation only."""
        return self.place.unsqueeze(0) - self.place.unsqueeze(1)

    def recur(self, layer: nn.LSTM, inputs: Float[Tensor, "n f"]) -> Float[Tensor, "n h"]:
        """The states of an LSTM (batch_first) that reads each conversation by itself, at every utterance."""
        if self.alone:
            alone: Tensor = layer(inputs.unsqueeze(1))[0][:, 0]
            return alone
        # a conversation has the number of its first utterance in the batch
        member = torch.unique(self.same.int().argmax(1), return_inverse=True)[1]
        counts = member.bincount()
        padded = inputs.new_zeros(len(counts), int(counts.max()), inputs.shape[1])
        padded = padded.index_put((member, self.place), inputs)
        states = packed(layer, padded, counts) if inputs.is_cuda else by_direction(layer, padded, counts)
        return states[member, self.place]


def packed(layer: nn.LSTM, padded: Float[Tensor, "c t f"], counts: Int[Tensor, " c"]) -> Float[Tensor, "c t h"]:
    """The states of sequences of unequal length, as cuDNN has them in one call."""
    sequences = pack_padded_sequence(padded, counts.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(sequences)[0], batch_first=True)[0]


def by_direction(layer: nn.LSTM, padded: Float[Tensor, "c t f"], counts: Int[Tensor, " c"]) -> Float[Tensor, "c t h"]:
    """The same, one layer and one direction at a time, which takes a processor as long or half as long.

    A direction that starts at the sequence's own end reads padding last as the other one does, and no state depends on
    what comes after it.
    """
    step = torch.arange(padded.shape[1], device=padded.device)
    real = (step < counts.unsqueeze(1)).unsqueeze(2)
    reverse = (counts.unsqueeze(1) - 1 - step).clamp(min=0).unsqueeze(2)
    zeros = padded.new_zeros(1, len(counts), layer.hidden_size)
    directions = 2 if layer.bidirectional else 1
    states = padded
    for number in range(layer.num_layers):
        if number:
            states = nn.functional.dropout(states, layer.dropout, layer.training)
        weights = layer.all_weights[directions * number : directions * (number + 1)]
        read = [states, states.take_along_dim(reverse, 1)][:directions]
        ways = [
            torch.lstm(inputs, (zeros, zeros), list(own), True, 1, 0.0, layer.training, False, True)[0]
            for inputs, own in zip(read, weights, strict=True)
        ]
        if layer.bidirectional:
            ways[1] = ways[1].take_along_dim(reverse, 1)
        states = torch.cat(ways, 2) * real
    return states
