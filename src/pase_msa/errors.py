"""The one exception for mistakes of the user's."""

from __future__ import annotations

import unicodedata

_LONGEST = 1_500  # characters; names from files may be of any length
_TAIL = 500  # what is left of the end, which says what to do


def printable(text: str, longest: int = _LONGEST) -> str:
    """Text from a file as a terminal may show it: no line breaks, no control characters, and not too long.

    Args:
        text: any.
        longest: characters beyond which the middle is left out.
    """
    if len(text) > longest:
        tail = min(_TAIL, longest // 3)
        text = f"{text[: longest - tail]} ... {text[len(text) - tail :]}"
    if text.isprintable():  # most of it is
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in "\n\r\t\v\f\u2028\u2029":
        return " "
    # Cc: control, Cf: direction and other invisible marks, Cs: halves of a pair, Cn, Co: no character at all
    if unicodedata.category(character).startswith("C"):
        return character.encode("unicode_escape").decode("ascii")
    return character


class PaSEError(ValueError):
    """A mistake that the user can mend.

    The message is one sentence (or two) that says what was wanted, what was found and what to do. The command line
    prints it without a traceback and exits with status 2. Names and values from files may stand in it as they are:
    control characters are escaped, and the middle of a very long message is left out.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(printable(str(message)))
