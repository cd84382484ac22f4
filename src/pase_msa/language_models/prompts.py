"""The prompt: the task in words, examples from the training split, the utterance."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pase_msa.errors import PaSEError
from pase_msa.task import Task

Message = dict[str, Any]
_IMAGES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".gif": "gif"}
_SOUNDS = {".wav": "wav", ".mp3": "mp3"}
_VIDEOS = {".mp4": "mp4", ".webm": "webm"}


def instruction(task: Task) -> str:
    """The task in words, with the range of its scores or the names of its classes."""
    what = "sentiment" if task.label == "label" else task.label
    if task.values is None:
        return (
            f"You classify the {what} of utterances from videos. The classes are: {', '.join(task.classes)}. "
            "Answer with the name of one class and nothing else."
        )
    low, high = task.values[0], task.values[-1]
    return (
        f"You rate the {what} of utterances from videos. A rating is a number from {low:g} (most negative) over "
        f"{task.center:g} (neutral) to {high:g} (most positive); decimals are allowed. Answer with the number and "
        "nothing else."
    )


def messages(
    task: Task, text: str | None, shots: Sequence[tuple[str, str]] = (), media: Sequence[Path] = ()
) -> list[Message]:
    """A conversation for a chat completion.

    Args:
        task: the prediction task.
        text: the transcript.
        shots: texts with their answers, each a turn of the conversation.
        media: images, sounds and videos of the utterance.

    Errors:
        PaSEError: a file of a kind that no message holds.
    """
    turns: list[Message] = [{"role": "system", "content": instruction(task)}]
    for example, answer in shots:
        turns += [{"role": "user", "content": example}, {"role": "assistant", "content": answer}]
    if not media:
        return [*turns, {"role": "user", "content": text or ""}]
    words = [{"type": "text", "text": text}] if text else []
    return [*turns, {"role": "user", "content": [*words, *(_part(file) for file in media)]}]


def is_medium(file: Path) -> bool:
    """Whether a message can hold a file of this kind."""
    return file.suffix.lower() in {**_IMAGES, **_SOUNDS, **_VIDEOS}


def _part(file: Path) -> dict[str, Any]:
    """A file as a part of a message. Sounds and images follow the format of OpenAI, videos that of vLLM."""
    suffix = file.suffix.lower()
    if not is_medium(file):
        raise PaSEError(
            f"{file} is no image, sound or video that a message can hold; convert it to one of "
            f"{', '.join([*_IMAGES, *_SOUNDS, *_VIDEOS])}."
        )
    content = base64.b64encode(file.read_bytes()).decode()
    if suffix in _SOUNDS:
        return {"type": "input_audio", "input_audio": {"data": content, "format": _SOUNDS[suffix]}}
    kind, name = ("image", _IMAGES[suffix]) if suffix in _IMAGES else ("video", _VIDEOS[suffix])
    return {"type": f"{kind}_url", f"{kind}_url": {"url": f"data:{kind}/{name};base64,{content}"}}
