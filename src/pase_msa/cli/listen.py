"""`pase listen`."""

from __future__ import annotations

import sys


def listen(
    run: str, *, input: str | None = None, every: float = 1.0, json: bool = False, out: str | None = None
) -> None:
    """Predict what is being said: a line per utterance, from a microphone or a pipe.

    Args:
        run: run folder, or a folder with a saved model.
        input: "-" reads sound from standard input (16-bit little-endian samples, mono, 16 kHz); the microphone if left
            out.
        every: seconds of speech between two partial results; 0 gives none.
        json: print every message as a line of JSON, partial results too.
        out: file that gets the same lines of JSON.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.files import check_out
    from pase_msa.serve.listening import listen as run_listening

    if input not in (None, "-"):
        raise PaSEError(
            f"--input takes - for standard input, found {input!r}; pipe a file: "
            "`ffmpeg -i FILE -ac 1 -ar 16000 -f s16le - | pase listen RUN --input -`."
        )
    if out is not None:
        check_out(out)
    count = run_listening(run, source=input, every=every, as_json=json, out=out)
    where = f" in {out}" if out is not None else ""
    print(f"{count} {'utterance' if count == 1 else 'utterances'}{where}", file=sys.stderr)
