"""Owns the kinds of id and the ``system-`` rule; must not know how ids are made (that is ``ports.entropy``)."""

from __future__ import annotations

import re
from typing import Final, NewType

TaskId = NewType("TaskId", str)
ExecutionId = NewType("ExecutionId", str)
WorkerId = NewType("WorkerId", str)
"""One running process of ours; a new one for every start."""

SYSTEM_PREFIX: Final = "system-"
LOCK_PREFIX: Final = "scheduler:lock:"


def is_system_id(id: str) -> bool:
    """Whether *id* lies in the name space that only our own system tasks may use."""
    return id.startswith(SYSTEM_PREFIX)


_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}", re.ASCII)


def is_id(text: str) -> bool:
    """Whether *text* can be an id at all; what can't be need not be looked for."""
    return _ID.fullmatch(text) is not None


def lock_key(task_id: TaskId) -> str:
    """The name under which a lock service shows that an execution of the task runs; other programs may look at it."""
    return LOCK_PREFIX + task_id
