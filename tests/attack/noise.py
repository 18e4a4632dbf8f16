"""Owns requests that no client should send, the same for the same seed; must not know who answers them."""

from __future__ import annotations

import json
import random
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

GOOD: Final[dict[str, Any]] = {
    "name": "noise",
    "type": "http",
    "schedule": "0 */10 * * * *",
    "priority": "normal",
    "enabled": True,
    "config": {"url": "https://api.example.com/health", "method": "GET", "timeout": "30s"},
    "tags": ["a"],
}
_STRANGE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 2**53, 2**63, 10**400, 1.5, 1e308, float("nan"), float("inf"), "", " ", "\0", "\ud800",
    "\uff41", "\u202e", "a" * 5000, "'; DROP TABLE tasks;--", "$ne", {"$gt": ""}, [], {}, [[]], "***", "P1D", "1e9h",
    "-5s", "0 0 0 30 2 *", "* * * * *", "*/0 * * * * *", "@reboot", "http", "system", "../../etc/passwd", "{{7*7}}",
    "%00",
)  # fmt: skip
_READ_ONLY: Final = (
    "id", "is_system", "source", "version", "created_by", "created_at", "status", "next_run", "last_run", "metadata",
    "__proto__", "$where", "a.b", "", "\0",
)  # fmt: skip
_PATHS: Final = (
    ("POST", "/scheduler/tasks"), ("PUT", "/scheduler/tasks/{id}"), ("POST", "/scheduler/tasks/{id}/execute"),
    ("POST", "/scheduler/tasks/{id}/pause"), ("POST", "/scheduler/tasks/bulk"), ("POST", "/scheduler/tasks/import"),
    ("POST", "/scheduler/schedule/preview"), ("GET", "/scheduler/tasks"), ("GET", "/scheduler/executions"),
    ("GET", "/scheduler/tasks/{id}/history"), ("DELETE", "/scheduler/tasks/{id}"),
)  # fmt: skip
_QUERIES: Final = (
    "page", "page_size", "limit", "cursor", "status", "status[$ne]", "type", "sort", "q", "tags", "started_after",
    "outcome", "trigger", "worker_id", "task_id", "enabled", "priority",
)  # fmt: skip
_IDS: Final = ("nothing", "system-health-check", "%00", "%ff", "a" * 200, "..", "%2e%2e", "'")
_HEADERS: Final = ("Idempotency-Key", "If-Match", "Content-Encoding", "Cookie", "X-Request-Id", "Accept")
_VALUES: Final = ("", "gzip", "a" * 1000, '"1"', '"' + "9" * 30 + '"', "falcon_auth_token=x", "\xff")
_TYPES: Final = (
    "application/json", "application/json", "application/json", "application/json; charset=utf-16", "text/plain",
    "application/yaml", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One request, as bytes where bytes may be wrong."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Noise:
    """An endless source of them."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def request(self) -> Request:
        """The next one."""
        pick = self._chance.choice
        method, path = pick(_PATHS)
        path = path.replace(
            "{id}", pick(("nothing", "system-health-check", "%00", "%ff", "a" * 200, "..", "%2e%2e", "'"))
        )
        if method == "GET" or self._chance.random() < 0.1:
            path += "?" + "&".join(f"{pick(_QUERIES)}={self._word()}" for _ in range(self._chance.randint(1, 4)))
        headers = {}
        if kind := pick(_TYPES):
            headers["Content-Type"] = kind
        if self._chance.random() < 0.1:
            headers[pick(("Idempotency-Key", "If-Match", "Content-Encoding", "Cookie", "X-Request-Id", "Accept"))] = (
                pick(("", "gzip", "a" * 1000, '"1"', '"' + "9" * 30 + '"', "falcon_auth_token=x", "\xff"))
            )
        return Request(method, path, headers, b"" if method == "GET" else self._body())

    def _word(self) -> str:
        raw = bytes(self._chance.choices(b"0129-aZ%._~*$'\"[]{}+", k=self._chance.randint(0, 12)))
        return raw.decode().replace("{", "%7b").replace("}", "%7d").replace('"', "%22").replace("[", "%5b")

    def _body(self) -> bytes:
        chance = self._chance
        document: Any = json.loads(json.dumps(GOOD)) | {"name": f"noise {chance.getrandbits(64)}"}
        turn = chance.random()
        if turn < 0.5:
            for _ in range(chance.randint(1, 3)):
                holder = chance.choice((document, document, document.get("config")))
                if isinstance(holder, dict):
                    # A copy: the next stroke may fall on what this one put there.
                    holder[chance.choice((*holder, *_READ_ONLY))] = deepcopy(chance.choice(_STRANGE))
            raw = json.dumps(document).encode()
        elif turn < 0.6:
            raw = json.dumps(chance.choice(_STRANGE)).encode()
        elif turn < 0.65:
            depth = chance.choice((31, 33, 600, 100_000))
            raw = b"[" * depth + b"]" * depth
        else:
            raw = json.dumps(document).encode()
        if chance.random() < 0.5:
            spoiled = bytearray(raw)
            for _ in range(chance.randint(1, 8)):
                at = chance.randrange(len(spoiled) + 1)
                spoiled[at : at + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 3))
            raw = bytes(spoiled)
        return raw
