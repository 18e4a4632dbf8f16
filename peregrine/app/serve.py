"""Owns what is done before the service is loaded: what keeps it from starting is said at once, not seconds later."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from peregrine.app.datadir import DataDir
from peregrine.app.listen import listen, raise_file_limit
from peregrine.app.settings import Loaded
from peregrine.app.stores import check_drivers

if TYPE_CHECKING:
    from peregrine.app.life import Beside


def serve(loaded: Loaded, *, beside: Beside | None = None) -> int:
    """Run the service until it is told to stop; the exit code. *beside* runs along and is cancelled at the end.

    Raises:  BadConfiguration and UnsafeStore before anything was promised to anybody.
    """
    settings = loaded.settings
    check_drivers(settings)
    os.umask(0o077)
    raise_file_limit()
    data_dir = DataDir(settings.data_dir.absolute())
    data_dir.prepare()
    with contextlib.closing(listen(settings.host, settings.port)) as listener:
        import uvloop

        from peregrine.app.life import Life

        return uvloop.run(Life(loaded, data_dir, listener).live(beside))
