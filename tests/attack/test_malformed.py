"""Requests that no client should send get an answer below 500 each, and leave nothing behind.

``make attack`` sends a hundred thousand; ``ATTACK_REQUESTS`` says how many otherwise.
"""

from __future__ import annotations

import http.client
import os
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.attack.noise import Noise, Request
from tests.attack.target import TARGETS, Target

REQUESTS = int(os.environ.get("ATTACK_REQUESTS", "5000"))
GROWTH_MAX = 24 * 2**20
"""Remembered answers and caches fill up to their bounds; a leak of a kilobyte each would be 100 MB."""


class Knocking:
    """One connection, opened anew where the answer closed it."""

    def __init__(self, target: Target) -> None:
        self._address = urlsplit(target.url).netloc
        self._token = target.token
        self._line = http.client.HTTPConnection(self._address, timeout=20)

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    def send(self, request: Request) -> int:
        """The status of its answer."""
        line = self._line
        try:
            line.putrequest(request.method, request.path, skip_accept_encoding=True)
            line.putheader("Authorization", f"Bearer {self._token}")
            for name, text in request.headers.items():
                line.putheader(name, text.encode("latin-1"))
            if request.body:
                line.putheader("Content-Length", str(len(request.body)))
            line.endheaders(request.body or None)
            answer = line.getresponse()
            answer.read()
        except BaseException:
            line.close()
            raise
        if answer.will_close:
            line.close()
        return answer.status


@pytest.mark.slow
@pytest.mark.timeout(REQUESTS // 50 + 120)
@pytest.mark.parametrize("store", list(TARGETS))
def test_no_noise_is_the_doors_fault_or_stays_in_memory(store: str, tmp_path: Path) -> None:
    with TARGETS[store](tmp_path) as target:
        knocking, noise = Knocking(target), Noise(17)
        statuses: Counter[int] = Counter()
        before = 0
        for number in range(REQUESTS):
            if number == REQUESTS // 5:
                before = target.resident_bytes
            request = noise.request()
            status = knocking.send(request)
            statuses[status] += 1
            assert status < 500, request
        growth = target.resident_bytes - before
        knocking.close()

        assert growth < GROWTH_MAX, f"{growth / 2**20:.1f} MiB more after {statuses}"
        assert statuses[400] > REQUESTS // 4
        assert "Traceback" not in target.log.read_text()
