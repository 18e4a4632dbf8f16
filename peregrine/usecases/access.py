"""Owns the first line of every use case: may this asker do that? Must not know tokens, policies or HTTP."""

from __future__ import annotations

from peregrine.domain.errors import Forbidden, Protected, Unauthenticated
from peregrine.domain.permission import Permission
from peregrine.domain.task import Task
from peregrine.ports.identity import Asker, Grants


async def require(grants: Grants, by: Asker, permission: Permission) -> None:
    """Return if *by* has *permission*.

    Raises:  Unauthenticated without credentials; Forbidden with them; Unavailable when grants can't be read.
    """
    decision = await grants.decide(by, permission)
    if decision.allowed:
        return
    if not by.principal.is_known:
        raise Unauthenticated(decision.reason)
    raise Forbidden(f"This needs the permission {permission}.", permission=permission)


def refuse_system(task: Task) -> None:
    """Raises Protected for a task of our own: nobody changes it over the API, whatever the role."""
    if task.is_system:
        raise Protected("A system task can't be changed or deleted.")
