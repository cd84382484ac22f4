"""The one exception for mistakes of the user's."""

from __future__ import annotations


class PaSEError(ValueError):
    """A mistake that the user can mend.

    The message is one sentence (or two) that says what was wanted, what was found and what to do. The command line
    prints it without a traceback and exits with status 2.
    """
