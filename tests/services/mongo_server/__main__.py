"""The server as a process: ``python -m tests.services.mongo_server [PORT]`` prints its address and runs until its
standard input ends, so it never outlives whoever started it. ``… install`` only makes sure that it can.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from tests.services.mongo_server.documents import Documents
from tests.services.mongo_server.gateway import Gateway
from tests.services.mongo_server.place import Database, NotHere, prepared, running


async def serve(database: Database, port: int) -> None:
    documents = Documents(database.dsn)
    await documents.open()
    listening = await Gateway(documents).start(port)
    sys.stdout.write(f"mongodb://127.0.0.1:{listening}/?directConnection=true\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await documents.close()


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else "0"
    try:
        if wanted == "install":
            prepared()
            return 0
        with running() as database:
            uvloop.run(serve(database, int(wanted)))
    except NotHere as error:
        sys.stderr.write(f"tests: {error}\n")
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
