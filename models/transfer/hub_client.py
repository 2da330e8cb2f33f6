"""A client for the hub that waits where it is asked to wait, for so long and no longer, and says so.

huggingface_hub 2.4.0 also waits out a 429, but for as long as the answer asks, without a word on a terminal, and a
download's 503 ends it.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2
from huggingface_hub import constants, get_session, set_client_factory
from huggingface_hub.utils import parse_ratelimit_headers

from models.files.safetensors_files import CheckpointUnreachable
from models.transfer.endpoints import Listener, silent
from models.transfer.transfer import Abandoned

BUSY = (429, 503)  # answers that may say how long to wait
PASSING = (*BUSY, 500, 502, 504)
PATIENCE = {"busy": 1800.0, "away": 30.0}  # seconds; the hub counts requests in windows of five minutes
SILENCE = 60.0  # seconds without a byte, where huggingface_hub sets no limit, as when it lists a repository
LONGEST_PAUSE = 30.0  # seconds between two tries where the hub doesn't say


@contextmanager
def patient_hub(listener: Listener = silent, given_up: threading.Event | None = None) -> Iterator[None]:
    """Have everything that huggingface_hub asks for in the block wait as `PatientClient` does.

    Args:
        listener: is told of waiting.
        given_up: ends the waiting when it is set.

    Raises:
        CheckpointUnreachable: if the environment names proxies that can't be used.
    """
    try:
        hooks = get_session().event_hooks  # huggingface_hub's own: they keep to HF_HUB_OFFLINE
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise CheckpointUnreachable(
            f"The hub can't be asked through the proxies that are set ({_reason(error)}): mend HTTP_PROXY, HTTPS_PROXY "
            "and ALL_PROXY."
        ) from None
    set_client_factory(partial(PatientClient, hooks, listener, given_up or threading.Event()))
    try:
        yield
    finally:
        set_client_factory(partial(PatientClient, hooks, silent, threading.Event()))


class PatientClient(httpx2.Client):
    """As huggingface_hub's own client (2.4.0), and patient."""

    def __init__(self, hooks: Mapping[str, Any], listener: Listener, given_up: threading.Event) -> None:
        super().__init__(event_hooks=dict(hooks), follow_redirects=True, timeout=None)
        self.listener, self.given_up = listener, given_up
        self.said_until = 0.0  # of the clock: threads that wait for the same thing say so once

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request until it is answered with something else than a plea to wait.

        Raises:
            CheckpointUnreachable: if it isn't answered in time, or if the hub asks for more patience than there is.
        """
        if (request.extensions.get("timeout") or {}).get("read") is None:
            request.extensions = {**request.extensions, "timeout": httpx2.Timeout(SILENCE).as_dict()}
        waited, pause = 0.0, 1.0
        while True:
            wait = pause
            try:
                response = super().send(request, **options)
            except httpx2.TransportError as error:
                kind, problem = "away", f"can't be reached ({_reason(error)})"
            else:
                if response.status_code not in PASSING:
                    return response
                response.close()
                asked = _asked(response.headers) if response.status_code in BUSY else None
                kind = "busy" if response.status_code == 429 or asked is not None else "away"
                problem = f"answers {response.status_code} {response.reason_phrase}".rstrip()
                wait = pause if asked is None else asked
            if waited + wait > PATIENCE[kind]:
                raise CheckpointUnreachable(_give_up(request, kind, problem, wait))
            self._rest(request.url.host, problem, wait)
            waited, pause = waited + wait, min(2 * pause, LONGEST_PAUSE)

    def _rest(self, host: str, problem: str, wait: float) -> None:
        until = time.monotonic() + wait
        if until > self.said_until + 1:
            self.said_until = until
            self.listener.say(f"{host} {problem}; waiting {wait:.0f} s.")
        if self.given_up.wait(wait):
            raise Abandoned


def _asked(headers: httpx2.Headers) -> float | None:
    """Seconds that an answer asks to wait, if it says so."""
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    seconds = headers.get("Retry-After", "").strip()
    return float(seconds) if seconds.isdigit() else None


def _give_up(request: httpx2.Request, kind: str, problem: str, wait: float) -> str:
    host = request.url.host
    if kind == "busy":
        asks = f"{wait / 60:.0f} minutes" if wait >= 120 else f"{wait:.0f} seconds"
        token = "" if "Authorization" in request.headers else ", or set HF_TOKEN, which raises the limit"
        return f"{host} {problem} and asks to wait {asks}; try again later{token}."
    return f"{host} {problem}; try again later, or check the network and HF_ENDPOINT ({constants.ENDPOINT})."


def _reason(error: Exception) -> str:
    """What went wrong, in the words of the operating system or of TLS where there are some."""
    words = str(error).strip().splitlines()
    return words[0].rstrip(".") if words else type(error).__name__
