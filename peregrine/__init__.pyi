# What a type checker sees of the lazy face. A file of its own, because an import under TYPE_CHECKING would count as an
# arrow from the face to the rooms, and every room below is imported through its package.
from peregrine.executors.callables import function as function
from peregrine.executors.context import Context as Context
from peregrine.executors.context import PermanentError as PermanentError
from peregrine.executors.context import RetryLater as RetryLater
from peregrine.executors.custom import executor as executor
from peregrine.modules.provided import provide as provide

__all__ = ["Context", "PermanentError", "RetryLater", "__version__", "executor", "function", "provide"]

__version__: str
