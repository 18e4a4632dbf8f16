"""A function that a served test trusts with a secret, and that can't keep it."""

from __future__ import annotations

import sys

from peregrine.executors.callables import function
from peregrine.executors.context import Context


@function("blab", module="test")
def blab(context: Context, token: str, secret: dict[str, str] | None = None, *, fails: bool = False) -> int:
    """Tells its secrets wherever it can; gives back how long they are together."""
    inner = (secret or {}).get("inner", "")
    sys.stdout.write(f"printed {token} {inner}\n")
    context.logger.warning("logged %s %s", token, inner)
    context.progress(0.5, f"halfway with {token}")
    if fails:
        raise ValueError(f"failed with {token} and {inner}")
    return len(token + inner)
