"""Owns how a task is meant: by its id, or else by its exact name; must not know what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from peregrine.cli.client import Client, Document, Refused
from peregrine.domain.ids import is_id

LOOKED_AT: Final = 100
"""Tasks on a page of those whose name or description holds the text."""
NOT_FOUND: Final = 404


def ask_about(
    client: Client,
    method: str,
    path: tuple[str, ...],
    *,
    query: Mapping[str, object] | None = None,
    body: object = None,
) -> Document:
    """The answer to a request about one task: *path* begins with its id or its name, and says what follows ``tasks/``.

    An id is tried first, so that it costs one request and no name can hide it.

    Raises:  Refused, with 404 if no task has this id or name.
    """
    said, *rest = path
    if is_id(said):
        try:
            return client.ask(method, ("tasks", *path), query=query, body=body)
        except Refused as refused:
            if refused.status != NOT_FOUND:
                raise
            if (id := id_of(client, said)) is None:
                raise Refused(NOT_FOUND, refused.problem, f"and no task is named {said!r}") from None
    elif (id := id_of(client, said)) is None:
        raise Refused(NOT_FOUND, {"detail": f"no task is named {said!r}"})
    return client.ask(method, ("tasks", id, *rest), query=query, body=body)


def id_of(client: Client, name: str) -> str | None:
    """The id of the task with exactly this name."""
    page, pages = 1, 1
    while page <= pages:
        further = {"page": page} if page > 1 else {}
        document = client.get("tasks", q=name, page_size=LOOKED_AT, **further)
        for task in document.get("tasks") or ():
            if task.get("name") == name:
                return str(task.get("id"))
        page, pages = page + 1, int(document.get("total_pages", 1))
    return None
