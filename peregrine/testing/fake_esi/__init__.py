"""A fake of EVE Online's ESI and sign-in that behaves as the real ones do, for tests and demonstrations.

- The public routes for alliances, corporations, characters and status on a world of any size, made from a seed; both
  corporation schemas by ``X-Compatibility-Date``, and the date in the answer.
- ``Expires``, ``ETag``, ``Last-Modified`` and 304; POST without them.
- The error limit with 420 on every route, token buckets with 429 and ``Retry-After``.
- Validation, and ids that sink a whole bulk request.
- Ways to fail, for the next so many requests or until they are cleared: ``FaultKind``.
- Sign-in with PKCE, refresh with rotation, every known refusal, keys for RS256 and ES256.
- A journal that tells whether the client was polite: ``journal.violations()``.

In a test, without sockets: ``await FakeEsi(clock).exchange(Asked(...))``. On a port: ``async with serve(fake) as
served``. As a process: ``python -m peregrine.testing.fake_esi --port 8099 --characters 100000``.
"""

from peregrine.testing.fake_esi.fake import FakeEsi
from peregrine.testing.fake_esi.faults import FaultKind
from peregrine.testing.fake_esi.journal import Entry, Journal
from peregrine.testing.fake_esi.limits import BucketSize
from peregrine.testing.fake_esi.message import Asked, Reset, Told
from peregrine.testing.fake_esi.server import Served, WallClock, serve
from peregrine.testing.fake_esi.sso import REVOKED, Application, Rotation, Sso
from peregrine.testing.fake_esi.world import Size, World

__all__ = [
    "REVOKED",
    "Application",
    "Asked",
    "BucketSize",
    "Entry",
    "FakeEsi",
    "FaultKind",
    "Journal",
    "Reset",
    "Rotation",
    "Served",
    "Size",
    "Sso",
    "Told",
    "WallClock",
    "World",
    "serve",
]
