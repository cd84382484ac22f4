"""Chat completions over HTTP from a server with OpenAI's protocol; `local` has those of a model on this machine."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from pase_msa.errors import PaSEError
from pase_msa.language_models.prompts import Message

_RETRIED = (408, 409, 429, 500, 502, 503, 504, 529)
_CONNECT = 4.0  # seconds until a server that cannot be reached is said to be so
_OFTEN = 2.0  # seconds between two notes, since several requests are under way
_log = logging.getLogger(__name__)
_RESUMES = "answers so far are kept, and the same command goes on from there"


@dataclass(frozen=True)
class Reply:
    """One answer with its cost.

    Attributes:
        text: the answer.
        finish: why it ended: "stop", "length", "content_filter"; "refusal" where the server marks one.
        tokens_in: of the prompt, None where the server does not count.
        tokens_out: of the answer.
        seconds: until it was there, repetitions included; None where it was not measured.
    """

    text: str
    finish: str
    tokens_in: int | None
    tokens_out: int | None
    seconds: float | None = None


class Chat(Protocol):
    """Whatever answers a conversation.

    Attributes:
        name: of the model.
        where: base URL, or "local".
        options: what an answer depends on beside the conversation.
    """

    name: str
    where: str
    options: dict[str, Any]

    def complete(self, messages: list[Message]) -> Reply:
        """The model's next turn."""


class _Told(Retry):
    """Repetitions that are told, so that nobody waits in silence."""

    _last = 0.0
    _lock = threading.Lock()

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        """The rules for the next try; a note says why there is one, and when.

        Errors:
            MaxRetryError: there is none left.
        """
        following = super().increment(*args, **kwargs)
        with _Told._lock:
            due = time.monotonic() - _Told._last > _OFTEN
            if due:
                _Told._last = time.monotonic()
        if due:
            response = kwargs.get("response")
            reason = f"answered {response.status}" if response is not None else "does not answer"
            left = following.total if isinstance(following.total, int) else 0
            wait = following.get_backoff_time()
            _log.warning(
                "the server %s; trying again in %.0f s, %d more times (Ctrl+C stops it)", reason, wait, left + 1
            )
        return following


@dataclass
class Endpoint:
    """A server's `POST {where}/chat/completions`.

    Too many requests, a server's fault and a lost connection are tried again, with growing pauses or after the pause
    that the server asks for (urllib3's `Retry`).

    Attributes:
        name: of the model.
        where: base URL, such as https://api.openai.com/v1.
        options: of the request's body.
        key: sent as a bearer token, if there is one.
        retries: tries after the first.
        pause: seconds before the second repetition; doubles from one to the next.
        timeout: seconds for an answer.
        connections: kept open.
    """

    name: str
    where: str
    options: dict[str, Any]
    key: str | None = field(default=None, repr=False)
    retries: int = 6
    pause: float = 1.0
    timeout: float = 300.0
    connections: int = 4

    def __post_init__(self) -> None:
        if not self.where.startswith(("http://", "https://")):
            raise PaSEError(f"A base URL begins with http:// or https://, found {self.where!r}; or it is 'local'.")
        self.where = self.where.rstrip("/")
        retry = _Told(
            total=self.retries,
            backoff_factor=self.pause,
            status_forcelist=_RETRIED,
            allowed_methods=None,  # POST too: a completion may be requested twice
            raise_on_status=False,
        )
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=self.connections, max_retries=retry))

    def complete(self, messages: list[Message]) -> Reply:
        """The model's next turn.

        Errors:
            PaSEError: no connection, a refused key or request, or an answer of another kind.
        """
        url, began = f"{self.where}/chat/completions", time.perf_counter()
        try:
            response = self._session.post(
                url,
                json={"model": self.name, "messages": messages, **self.options},
                auth=self._sign,
                timeout=(_CONNECT, self.timeout),
                allow_redirects=False,  # a redirected POST would become a GET, and the key might go elsewhere
            )
        except requests.RequestException as error:
            raise PaSEError(f"{url} did not answer ({type(error).__name__}); check --base-url; {_RESUMES}.") from error
        if response.status_code != 200:
            if "content_filter" in response.text:
                return Reply("", "content_filter", 0, 0)  # no answer, and no count of tokens
            raise PaSEError(
                f"{url} answered {response.status_code} {response.reason}: {_reason(response)}; check the base URL, "
                f"the model and the key; {_RESUMES}."
            )
        try:
            content = response.json()
            choice = content["choices"][0]
            message, usage = choice["message"], content.get("usage") or {}
            refusal = message.get("refusal")
            text = message.get("content") or refusal or ""
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise PaSEError(f"{url} answered with something that is no chat completion; check --base-url.") from error
        if isinstance(text, list):
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        finish = "refusal" if refusal else str(choice.get("finish_reason") or "stop")
        seconds = time.perf_counter() - began
        return Reply(str(text), finish, usage.get("prompt_tokens"), usage.get("completion_tokens"), seconds)

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # by hand: without any `auth`, requests would look for passwords in the user's .netrc
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


def _reason(response: requests.Response) -> str:
    """The server's own error message, on one line."""
    try:
        error = response.json()["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        text = response.text
    return " ".join(text.split())[:200] or "nothing more"
