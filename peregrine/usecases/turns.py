"""Owns who changes a task next in this process; must not know what is changed, or other processes."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from peregrine.domain.ids import TaskId


class Turns:
    """One lock for each task that somebody is changing.

    The store decides who was first and needs no lock. But of a hundred who change one task at once, each has to read
    and decide anew for every one who was quicker; here they wait in line instead, and each decides once.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[TaskId, asyncio.Lock] = WeakValueDictionary()

    def of(self, task_id: TaskId) -> asyncio.Lock:
        """To be held while the task is read, decided about and written; it lives as long as somebody has it."""
        lock = self._locks.get(task_id)
        if lock is None:
            lock = self._locks[task_id] = asyncio.Lock()
        return lock
