"""The face of Peregrine for a host program: register functions and executors, and steer an attempt. Defines nothing.

::

    from peregrine import Context, function

    @function("process_data", module="analytics")
    def process_data(context: Context, limit: int = 100) -> str:
        ...

Each name is fetched when it is first asked for: importing the package costs next to nothing, and what a child process
or the command line does not use is never loaded. Inside the house nobody imports from here.
"""

from __future__ import annotations

__all__ = ["Context", "PermanentError", "RetryLater", "__version__", "executor", "function", "provide"]

_VERSION = "0.1.0"
_HOMES = {
    "Context": "peregrine.executors.context",
    "PermanentError": "peregrine.executors.context",
    "RetryLater": "peregrine.executors.context",
    "executor": "peregrine.executors.custom",
    "function": "peregrine.executors.callables",
    "provide": "peregrine.modules.provided",
}


def __getattr__(name: str) -> object:
    import importlib

    if name == "__version__":
        metadata = importlib.import_module("importlib.metadata")
        try:
            value = metadata.version("peregrine")
        except metadata.PackageNotFoundError:
            value = _VERSION
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'peregrine' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
