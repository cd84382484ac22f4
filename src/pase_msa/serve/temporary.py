"""Uploads of a server are removed when it ends, also by SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def temporary_files() -> Iterator[str]:
    """A folder in which every temporary file of the process is made, until the end of the context.

    Libraries that take uploads make files in the default place and leave them to a later cleaning. SIGTERM becomes an
    ordinary exit, so that the folder is removed then, too.
    """
    main = threading.current_thread() is threading.main_thread()  # only there are signals handled
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)) if main else None
    before = tempfile.tempdir
    # what a thread still holds open or adds meanwhile is no reason to fail at the end
    with tempfile.TemporaryDirectory(prefix="pase_serve_", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            yield folder
        finally:
            tempfile.tempdir = before
    if main:
        signal.signal(signal.SIGTERM, handler)
