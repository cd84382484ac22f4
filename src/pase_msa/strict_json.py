"""JSON that every reader takes."""

from __future__ import annotations

import json
import math
from typing import Any


def strict_json(content: Any) -> str:
    """Strict JSON: what is not a number (a metric without any case) is null."""

    def strict(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strict(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [strict(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(strict(content), allow_nan=False)
