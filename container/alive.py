"""Whether the server or the page in this container answers; the exit status is 0 if one does."""

import sys
import urllib.request

ADDRESSES = ("http://127.0.0.1:8000/health", "http://127.0.0.1:7860/")


def answers(address: str) -> bool:
    """Whether a request to an address is answered with 200 within three seconds."""
    try:
        with urllib.request.urlopen(address, timeout=3) as response:
            return bool(response.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(0 if any(map(answers, ADDRESSES)) else 1)
