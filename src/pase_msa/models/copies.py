"""Several coalitions that went through a model as one batch, apart again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from pase_msa.batch import Outputs


def split(outputs: Outputs, count: int) -> list[Outputs]:
    """The outputs of `count` batches of the same size that went through the model as one."""

    def cut(value: Tensor, dim: int = 0) -> list[Tensor]:
        # not `chunk`, which does not know the number of pieces where the number of rows is a symbol
        return list(value.unflatten(dim, (count, -1)).unbind(dim))  # type: ignore[no-untyped-call]

    def cut_all(group: Mapping[str, Tensor], dim: int = 0) -> list[dict[str, Tensor]]:
        pieces = {name: cut(value, dim) for name, value in group.items()}
        return [{name: values[index] for name, values in pieces.items()} for index in range(count)]

    rows = ("vectors", "posteriors", "logs", "present")
    whole = {name: value for name, value in outputs.state.items() if name not in rows}
    states = cut_all({name: value for name, value in outputs.state.items() if name in rows}, dim=1)
    logits, probabilities, fused = cut(outputs.logits), cut(outputs.probabilities), cut(outputs.fused)
    scores = [None] * count if outputs.score is None else cut(outputs.score)
    vectors, present = cut_all(outputs.vectors), cut_all(outputs.present)
    posteriors, gates = cut_all(outputs.posteriors), cut_all(outputs.gates)
    return [
        Outputs(
            logits[index],
            probabilities[index],
            scores[index],
            fused[index],
            vectors=vectors[index],
            present=present[index],
            posteriors=posteriors[index],
            gates=gates[index],
            weights=dict(outputs.weights),
            state=whole | states[index],
        )
        for index in range(count)
    ]
