"""Owns the hand-written table: each route, and the answer to each role. Must not be made from the code it judges.

A row says what everybody gets who is let in, and who that is. The rest get 403 with a token and 401 without.
"""

from __future__ import annotations

from typing import Any, Final

ROLES: Final = ("super_admin", "administrators", "task_managers", "monitoring", "authenticated", "strangers")
ADMINS: Final = frozenset({"super_admin", "administrators"})
WRITERS: Final = ADMINS | {"task_managers"}
READERS: Final = WRITERS | {"monitoring"}
SIGNED_IN: Final = frozenset(ROLES)
ANYBODY: Final = SIGNED_IN | {"nobody"}

POLICY: Final = {"subject": "user:9", "permission": "scheduler.read"}
MEMBER: Final = {"subject": "user:9", "member_of": "group:monitoring"}
TASK: Final = {"name": "new", "type": "http", "schedule": "@daily", "config": {"url": "https://x.example/"}}
BULK: Final = {"task_ids": ["nobody"], "operation": "enable"}

# method, path, body, status for who may, who may
ROWS: Final[list[tuple[str, str, Any, int, frozenset[str]]]] = [
    ("GET", "/scheduler/status", None, 200, ANYBODY),
    ("GET", "/scheduler/scheduler-status", None, 200, ANYBODY),
    ("GET", "/scheduler/stats", None, 200, ANYBODY),
    ("GET", "/scheduler/tasks", None, 200, READERS),
    ("POST", "/scheduler/tasks", TASK, 201, WRITERS),
    ("GET", "/scheduler/tasks/{id}", None, 200, READERS),
    ("PUT", "/scheduler/tasks/{id}", {}, 200, WRITERS),
    ("DELETE", "/scheduler/tasks/{id}", None, 200, ADMINS),
    ("POST", "/scheduler/tasks/{id}/execute", None, 202, WRITERS),
    ("POST", "/scheduler/tasks/{id}/start", None, 202, WRITERS),
    ("POST", "/scheduler/tasks/{id}/stop", None, 200, WRITERS),
    ("POST", "/scheduler/tasks/{id}/pause", None, 200, WRITERS),
    ("POST", "/scheduler/tasks/{id}/resume", None, 200, WRITERS),
    ("POST", "/scheduler/tasks/{id}/enable", None, 200, WRITERS),
    ("POST", "/scheduler/tasks/{id}/disable", None, 200, WRITERS),
    ("GET", "/scheduler/tasks/{id}/history", None, 200, READERS),
    ("GET", "/scheduler/tasks/{id}/occurrences", None, 200, READERS),
    ("GET", "/scheduler/tasks/{id}/executions/{exec_id}", None, 200, READERS),
    ("GET", "/scheduler/executions", None, 200, READERS),
    ("GET", "/scheduler/executions/{exec_id}", None, 200, READERS),
    ("POST", "/scheduler/executions/{exec_id}/cancel", None, 202, WRITERS),
    ("GET", "/scheduler/executions/{exec_id}/logs", None, 200, READERS),
    ("GET", "/scheduler/executions/{exec_id}/logs/stream", None, 200, READERS),
    ("GET", "/scheduler/tasks/{id}/executions/{exec_id}/logs", None, 200, READERS),
    ("GET", "/scheduler/tasks/{id}/executions/{exec_id}/logs/stream", None, 200, READERS),
    ("GET", "/scheduler/functions", None, 200, READERS),
    ("GET", "/scheduler/executors", None, 200, READERS),
    ("POST", "/scheduler/tasks/bulk", BULK, 200, WRITERS),
    ("POST", "/scheduler/tasks/import", [TASK], 200, WRITERS),
    ("GET", "/scheduler/tasks/export", None, 200, READERS),
    ("POST", "/scheduler/schedule/preview", {"schedule": "@daily"}, 200, READERS),
    ("POST", "/scheduler/reload", None, 200, ADMINS),
    ("GET", "/scheduler/policies", None, 200, ADMINS),
    ("POST", "/scheduler/policies", POLICY, 201, ADMINS),
    ("DELETE", "/scheduler/policies/{policy_id}", None, 200, ADMINS),
    ("GET", "/scheduler/memberships", None, 200, ADMINS),
    ("POST", "/scheduler/memberships", MEMBER, 201, ADMINS),
    ("DELETE", "/scheduler/memberships/{membership_id}", None, 200, ADMINS),
    ("GET", "/scheduler/api-keys", None, 200, ADMINS),
    ("POST", "/scheduler/api-keys", {"name": "k", "groups": ["monitoring"]}, 201, ADMINS),
    ("DELETE", "/scheduler/api-keys/{key_id}", None, 200, ADMINS),
    ("GET", "/scheduler/audit", None, 200, ADMINS),
    ("GET", "/auth/eve/login", None, 404, ANYBODY),
    ("GET", "/auth/eve/callback", None, 404, ANYBODY),
    ("GET", "/auth/me", None, 200, SIGNED_IN),
    ("POST", "/auth/logout", None, 200, SIGNED_IN),
    ("GET", "/healthz", None, 200, ANYBODY),
    ("GET", "/readyz", None, 200, ANYBODY),
    ("GET", "/metrics", None, 200, ANYBODY),
    ("GET", "/openapi.json", None, 200, ANYBODY),
    ("GET", "/docs", None, 200, ANYBODY),
    ("GET", "/docs/start.js", None, 200, ANYBODY),
    ("GET", "/docs/swagger-ui-bundle.js", None, 200, ANYBODY),
    ("GET", "/docs/swagger-ui.css", None, 200, ANYBODY),
    ("GET", "/docs/favicon-32x32.png", None, 200, ANYBODY),
]
NO_IDENTITY: Final = {"/healthz", "/readyz", "/openapi.json", "/auth/eve/login", "/auth/eve/callback"}
"""Routes that do not look at credentials at all, so bad ones do not matter (and ``/docs``, and public metrics)."""
