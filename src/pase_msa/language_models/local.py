"""A language model on this machine, through `transformers`: from a folder, as it is or as a GGUF file."""

from __future__ import annotations

import copy
import inspect
import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pase_msa.data.pretrained import load_quietly, model_hash
from pase_msa.encoders.precision import has_bfloat16
from pase_msa.errors import PaSEError
from pase_msa.language_models.endpoint import Reply
from pase_msa.language_models.prompts import Message
from pase_msa.optional import need

_SHARED = 16  # tokens that two conversations begin with alike, from which on these are read once for all
_LARGE = 1_000_000_000  # parameters from which on bfloat16 is taken where the processor has it


@dataclass
class Local:
    """A decoder that answers greedily, one conversation at a time, or grades given answers by their likelihood.

    Attributes:
        name: folder or hub name.
        options: "max_tokens"; the hash of the weights and their precision are added.
        gguf: name of the GGUF file in the folder; the only one there if left out; None for a plain folder.
        where: "local".
    """

    name: str
    options: dict[str, Any]
    gguf: str | None = None
    where: str = "local"

    def __post_init__(self) -> None:
        need("transformers")
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.gguf = _gguf_file(self.name, self.gguf)
        more: dict[str, Any] = {}
        if self.gguf is not None:
            need("gguf", "accelerate")
            more = {"gguf_file": self.gguf}
        self.tokenizer: Any = load_quietly(lambda name: AutoTokenizer.from_pretrained(name, **more), self.name)
        model: Any = load_quietly(lambda name: AutoModelForCausalLM.from_pretrained(name, **more), self.name)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        large = sum(parameter.numel() for parameter in model.parameters()) >= _LARGE
        dtype = torch.bfloat16 if large and has_bfloat16(device) else torch.float32
        self.model: Any = model.to(device=device, dtype=dtype).eval()
        # the same folder may hold another model tomorrow
        self.options = {**self.options, "weights": model_hash(self.name), "dtype": str(dtype)}
        if self.gguf is not None:
            self.options["gguf"] = self.gguf
        self._lock = threading.Lock()
        self._known = set(inspect.signature(self.model.forward).parameters)
        self._last: list[int] = []  # the conversation before
        self._begin: tuple[list[int], Any] | None = None  # what conversations begin with, and its states

    @torch.inference_mode()
    def complete(self, messages: list[Message]) -> Reply:
        """The model's next turn, greedily; of a model without a chat template, its first line.

        Errors:
            PaSEError: media, which a text-generation model does not take.
        """
        began = time.perf_counter()
        count = int(self.options["max_tokens"])
        with self._lock:
            prompt = self._prompt(messages)
            length = prompt.shape[1]
            # what else the folder's generation settings hold is about drawing, which is not done
            ids = self.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=self.tokenizer.eos_token_id,
                stopping_criteria=None if self._is_chat else [self._line_ends(length)],
            )[0, length:]
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        if not self._is_chat:
            text = text.strip().partition("\n")[0]
        ended = len(ids) < count or int(ids[-1]) == self.tokenizer.eos_token_id
        return Reply(text, "stop" if ended else "length", length, len(ids), time.perf_counter() - began)

    @torch.inference_mode()
    def log_likelihoods(self, messages: list[Message], answers: Sequence[str]) -> list[float]:
        """Log-likelihood of each answer as the whole of the next turn, its end included.

        The conversation is read once, and every answer goes on from there. What it begins with like the conversation
        before, instructions and examples, is not read again.
        """
        with self._lock:
            prompt = self._prompt(messages)
            candidates = [self._tokens(answer) for answer in answers]
            first = self._read(prompt)
            start = first.logits[0, -1].float().log_softmax(-1)
            totals = torch.stack([start[tokens[0]] for tokens in candidates])
            longest = max(map(len, candidates))
            if longest > 1:
                cache = first.past_key_values
                cache.batch_repeat_interleave(len(candidates))
                # what is to the right of a token does not change it, so that padding needs no mask
                padded = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in candidates])
                padded = padded.to(prompt.device)
                logits = self.model(padded[:, :-1], use_cache=True, **self._goes_on(cache)).logits
                each = logits.float().log_softmax(-1).gather(2, padded[:, 1:].unsqueeze(2)).squeeze(2)
                valid = torch.tensor([[i < len(tokens) for i in range(1, longest)] for tokens in candidates])
                totals = totals + (each * valid.to(each)).sum(1)
        return [float(value) for value in totals]

    def _read(self, prompt: Tensor) -> Any:
        """The model's output at the last token of a prompt [1, T], with the states to go on from."""
        ids = prompt[0].tolist()
        if self._begin is None or ids[: len(self._begin[0])] != self._begin[0]:
            # a part of the former beginning, which went one word too far, or that of another kind of conversation
            former = [] if self._begin is None else self._begin[0]
            alike = next((n for n in (_alike(former, ids), _alike(self._last, ids)) if n >= _SHARED), 0)
            alike = min(alike, len(ids) - 1)  # the last token is read in any case
            self._begin = None
            if alike >= _SHARED:
                begin = self.model(prompt[:, :alike], use_cache=True, **self._last_only())
                self._begin = ids[:alike], begin.past_key_values
        self._last = ids
        if self._begin is None or len(ids) == len(self._begin[0]):
            return self.model(prompt, use_cache=True, **self._last_only())
        read, cache = self._begin
        # a copy, since a pass adds its own states
        more = {**self._goes_on(copy.deepcopy(cache)), **self._last_only()}
        return self.model(prompt[:, len(read) :], use_cache=True, **more)

    def _last_only(self) -> dict[str, int]:
        """The option that leaves out the scores of the vocabulary at all tokens but the last, under its name."""
        names = ("logits_to_keep", "num_logits_to_keep")  # now, and in older versions
        return next(({name: 1} for name in names if name in self._known), {})

    def _goes_on(self, cache: Any) -> dict[str, Any]:
        """The option that makes a pass go on from states, under its name."""
        return {"cache" if "cache" in self._known else "past_key_values": cache}  # the latter in older versions

    @property
    def _is_chat(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def _prompt(self, messages: list[Message]) -> Tensor:
        """Token ids of a conversation, [1, T]: by the model's template, or written out for a model without one."""
        if any(not isinstance(message["content"], str) for message in messages):
            raise PaSEError(
                "A local text-generation model takes text only; leave --media out, or serve a larger model."
            )
        if self._is_chat:
            text = self._templated(messages)
        else:
            turns = {"system": "{}", "user": "Utterance: {}", "assistant": "Answer: {}"}
            text = "\n".join([*(turns[m["role"]].format(m["content"]) for m in messages), "Answer:"])
        ids = self.tokenizer(text, add_special_tokens=not self._is_chat, return_tensors="pt")["input_ids"]
        return torch.as_tensor(ids).to(self.model.device)

    def _templated(self, messages: list[Message]) -> str:
        from jinja2 import TemplateError

        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except TemplateError:  # some know no system turn, and take its words in the first turn of the user
            system, first, *rest = messages
            joined = {"role": "user", "content": f"{system['content']}\n\n{first['content']}"}
            text = self.tokenizer.apply_chat_template([joined, *rest], tokenize=False, add_generation_prompt=True)
            return str(text)

    def _tokens(self, answer: str) -> list[int]:
        """An answer as tokens, with what ends a turn."""
        text = answer if self._is_chat else f" {answer}\n"
        ids = [int(token) for token in self.tokenizer(text, add_special_tokens=False)["input_ids"]]
        return [*ids, int(self.tokenizer.eos_token_id)] if self._is_chat else ids

    def _line_ends(self, start: int) -> Any:
        """A criterion that ends an answer after its first line; a base model would go on with a next utterance."""
        from transformers import StoppingCriteria

        tokenizer = self.tokenizer

        class LineEnds(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **more: Any) -> Any:
                text = str(tokenizer.decode(input_ids[0, start:])).lstrip()
                return torch.full((len(input_ids),), "\n" in text, dtype=torch.bool, device=input_ids.device)

        return LineEnds()


def _alike(first: list[int], second: list[int]) -> int:
    """The number of tokens that two conversations begin with alike."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def _gguf_file(name: str, wanted: str | None) -> str | None:
    """The GGUF file of a folder: the one that is named, or the only one where there is no plain model."""
    folder = Path(name)
    found = sorted(file.name for file in folder.glob("*.gguf")) if folder.is_dir() else []
    if wanted is not None:
        if wanted not in found:
            has = f"it has {', '.join(found)}; name one of these" if found else "it has no GGUF file; leave --gguf out"
            raise PaSEError(f"{name} holds no {wanted}; {has}, or name another folder.")
        return wanted
    if not found or (folder / "config.json").is_file():
        return None
    if len(found) > 1:
        raise PaSEError(f"{name} holds {', '.join(found)}; name one with --gguf.")
    return found[0]
