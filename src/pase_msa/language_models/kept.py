"""What a language model has said is kept in the cache, so that nothing is asked twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

from pase_msa.errors import PaSEError
from pase_msa.files import cache_folder, make_folder, write_text

_log = logging.getLogger(__name__)


def kept(request: Any, ask: Callable[[], Any]) -> tuple[Any, bool]:
    """The plain content that belongs to a request, from the cache or new, and whether it was in the cache.

    Args:
        request: all that the content depends on, plain.
        ask: makes the content where the cache has none, or a damaged one.
    """
    words = json.dumps(request, sort_keys=True)
    file = cache_folder("answers") / f"{hashlib.sha256(words.encode()).hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(file.read_text(encoding="utf-8")), True
    content = ask()
    try:
        make_folder(file.parent)
        write_text(file, json.dumps(content))
    except PaSEError as error:
        _log.warning("a reply is not kept for later runs: %s", error)
    return content, False
