"""Owns connections and their threads: one that writes with group commit, a few that read; must not know any query.

Callers await a future. The writer takes everything that waits into one ``BEGIN IMMEDIATE … COMMIT``, so a crowd pays
for one flush of the disk, and each operation stands in a savepoint of its own, so that one which fails does not sink
the others. What breaks the transaction itself (a full disk, a failing one) is tried again alone, each operation by
itself, and each caller hears what became of its own.

An operation is a function of the connection. It may run twice, so it keeps nothing between its calls.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import apsw

from peregrine.domain.errors import StorageFull, Unavailable, Unsure

Result = TypeVar("Result")

GROUP_MAX: Final = 256
"""Operations in one commit; the first waits for the last, so the group is bounded."""
BUSY_SECONDS: Final = 5.0
"""How long a neighbour may hold the store before we give up."""
BUSY_PAUSE_SECONDS: Final = 0.0005
CACHED_STATEMENTS: Final = 256
LOOK_EVERY: Final = 100_000
"""Instructions of SQLite's machine, about a millisecond of them, between two looks at the time."""

_GONE: Final = (apsw.ReadOnlyError, apsw.CantOpenError, apsw.IOError, apsw.AuthError, apsw.PermissionsError)
_DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError)
_BUSY: Final = (apsw.BusyError, apsw.LockedError)


def open_connection(path: Path, *, reads_only: bool = False) -> apsw.Connection:
    """A connection to the existing file at *path*, with every setting that safety needs; never makes a file.

    Raises:  apsw.Error.
    """
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, statementcachesize=CACHED_STATEMENTS)
    try:
        be_patient(db)
        mode = db.pragma("journal_mode", "wal")
        if mode != "wal":
            raise apsw.CantOpenError(f"the journal mode is {mode}, not wal")
        db.pragma("synchronous", "full")
        db.pragma("foreign_keys", "on")
        db.pragma("trusted_schema", "off")
        db.pragma("cell_size_check", "on")
        db.pragma("mmap_size", 0)
        db.pragma("temp_store", "memory")
        db.pragma("cache_size", -8_192 if reads_only else -32_768)
        if reads_only:
            db.pragma("query_only", "on")
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    except BaseException:
        db.close()
        raise
    return db


def be_patient(db: apsw.Connection) -> None:
    """Let *db* wait for a lock that another process holds, looking again and again at short distances.

    SQLite's own patience sleeps longer each time; beside a neighbour that hardly pauses, it was passed over for more
    than a second, ten times as long as with this.
    """
    until = 0.0

    def wait(tries: int) -> bool:
        nonlocal until
        if tries == 0:
            until = time.monotonic() + BUSY_SECONDS
        time.sleep(BUSY_PAUSE_SECONDS)
        return time.monotonic() < until

    db.set_busy_handler(wait)


@contextmanager
def time_limit(db: apsw.Connection, seconds: float, *, every: int = LOOK_EVERY) -> Iterator[None]:
    """Let what *db* does end with ``apsw.InterruptError`` after so many seconds.

    *every*: instructions between two looks at the time; a check of the pages counts each page as one.
    """
    until = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > until, every)
    try:
        yield
    finally:
        db.set_progress_handler(None)


def translate(error: apsw.Error, *, at_commit: bool = False) -> Exception:
    """*error* as callers know it: safe to show, no path. What is a bug of ours stays what it is."""
    if isinstance(error, apsw.FullError):
        return StorageFull("the disk of the store is full; nothing was written")
    if isinstance(error, _BUSY):
        return Unavailable("another process holds the store for too long")
    if at_commit:
        return Unsure("the store failed while it made a write durable; it may or may not be kept")
    if isinstance(error, _DAMAGED):
        return Unavailable("the store is damaged; stop the service and restore a backup")
    if isinstance(error, _GONE):
        return Unavailable("the store can't be reached or written now")
    if isinstance(error, apsw.InterruptError):
        return Unavailable("the store took too long to answer; ask for less at once")
    if isinstance(error, apsw.NoMemError):
        return Unavailable("the store has no memory")
    return error


@dataclass(slots=True)
class _Call:
    """One operation that somebody awaits."""

    operation: Callable[[apsw.Connection], Any]
    future: asyncio.Future[Any]
    grows: bool = False
    alone: bool = False
    result: Any = None
    error: Exception | None = None


class _Broken(Exception):
    """The transaction itself is lost, not only the operation in it."""

    def __init__(self, cause: apsw.Error, *, at_commit: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.at_commit = at_commit

    @property
    def may_be_one_s_own_fault(self) -> bool:
        """Whether each operation is tried again by itself. Not when a neighbour holds the store: each would wait anew.

        Nor when a commit failed, which may have been kept; but a full disk is found before the mark of the commit is
        written.
        """
        if self.at_commit:
            return isinstance(self.cause, apsw.FullError)
        return not isinstance(self.cause, _BUSY)


class Lane:
    """Threads that work off calls; a subclass says how. Belongs to the process that started it.

    ``damaged`` hears when SQLite finds the file broken.
    """

    def __init__(
        self, connect: Callable[[], apsw.Connection], *, name: str, damaged: Callable[[], None], threads: int = 1
    ) -> None:
        self._connect = connect
        self._damaged = damaged
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._wanted = threads
        self._threads: list[threading.Thread] = []
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = False

    def start(self) -> None:
        """Begin; the running loop is where answers go."""
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._open = True
        for number in range(self._wanted):
            thread = threading.Thread(target=self._serve, name=f"{self._name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    @property
    def is_open(self) -> bool:
        return self._open

    async def run(
        self, operation: Callable[[apsw.Connection], Result], *, grows: bool = False, alone: bool = False
    ) -> Result:
        """What *operation* gives.

        *grows*: it is refused while the last room on the disk is kept for others. *alone*: it stands in no transaction.
        """
        if not self._open:
            raise Unavailable("the store is not open")
        assert os.getpid() == self._pid, "a connection must not cross a fork"
        assert self._loop is not None
        future: asyncio.Future[Result] = self._loop.create_future()
        self._calls.put(_Call(operation, future, grows, alone))
        return await future

    async def stop(self) -> None:
        """Finish what was asked for, then end; safe twice."""
        if not self._open:
            return
        self._open = False
        if os.getpid() != self._pid:
            return
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads.clear()

    def _serve(self) -> None:
        raise NotImplementedError

    def _answer(self, calls: Iterable[_Call]) -> None:
        """Deliver all of *calls* in one visit to the loop."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(_deliver, list(calls))
        except RuntimeError:
            # The loop has ended; nobody waits any more.
            return


def _deliver(calls: list[_Call]) -> None:
    for call in calls:
        if call.future.done():
            continue
        if call.error is None:
            call.future.set_result(call.result)
        else:
            call.future.set_exception(call.error)


class Readers(Lane):
    """Threads that read, each on its own connection, each call in one snapshot and within ``seconds``."""

    def __init__(
        self,
        connect: Callable[[], apsw.Connection],
        *,
        name: str,
        damaged: Callable[[], None],
        threads: int,
        seconds: float,
    ) -> None:
        super().__init__(connect, name=name, damaged=damaged, threads=threads)
        self._seconds = seconds

    def _serve(self) -> None:
        db: apsw.Connection | None = None
        while (call := self._calls.get()) is not None:
            try:
                db = db or self._connect()
                with time_limit(db, self._seconds):
                    call.result = _read(db, call)
            except Exception as error:
                call.error = translate(error) if isinstance(error, apsw.Error) else error
                if isinstance(error, _DAMAGED):
                    self._damaged()
                # A snapshot that nobody ends would keep the log from being folded for ever.
                if isinstance(error, apsw.Error) or (db is not None and db.in_transaction):
                    _drop(db)
                    db = None
            self._answer([call])
        _drop(db)


def _read(db: apsw.Connection, call: _Call) -> object:
    db.execute("BEGIN")
    try:
        return call.operation(db)
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


class Surroundings(Protocol):
    """What stands around the writer: told of what it meets, asked for what it may."""

    def opened(self, db: apsw.Connection) -> None:
        """The writer has a new connection."""
        ...

    def before(self, db: apsw.Connection) -> None:
        """A group is about to be written. Raises Unavailable when it must not be."""
        ...

    def may_grow(self, db: apsw.Connection) -> bool:
        """Whether there is room for more than what ends work or frees room."""
        ...

    def after(self, db: apsw.Connection) -> None:
        """A group was written and its callers know."""
        ...

    def full(self) -> None:
        """The disk is full."""
        ...


class Writer(Lane):
    """The one thread that writes."""

    def __init__(
        self, connect: Callable[[], apsw.Connection], around: Surroundings, *, damaged: Callable[[], None]
    ) -> None:
        super().__init__(connect, name="store-writer", damaged=damaged)
        self._db: apsw.Connection | None = None
        self._around = around

    def _serve(self) -> None:
        while calls := self._take():
            self._work([call for call in calls if not call.alone])
            for call in calls:
                if call.alone:
                    self._work_alone(call)
            self._answer(calls)
            self._rest()
        self._let_go()

    def _rest(self) -> None:
        if self._db is not None:
            try:
                self._around.after(self._db)
            except apsw.Error as error:
                self._recover(error)
            except Exception:
                # Nobody waits for this; the next group finds what is wrong and says so.
                self._let_go()

    def _take(self) -> list[_Call]:
        """All that waits, up to a bound; nothing when it is time to end."""
        first = self._calls.get()
        calls = [] if first is None else [first]
        try:
            while calls and len(calls) < GROUP_MAX:
                call = self._calls.get_nowait()
                if call is None:
                    # This thread's own end: it must be seen again after these.
                    self._calls.put(None)
                    break
                calls.append(call)
        except Empty:
            pass
        return calls

    def _work_alone(self, call: _Call) -> None:
        try:
            call.result = call.operation(self._connection())
        except apsw.Error as error:
            self._recover(error)
            call.error = translate(error)
        except Exception as error:
            self._let_go()
            call.error = error

    def _work(self, calls: list[_Call]) -> None:
        if not calls:
            return
        try:
            self._write(calls)
        except _Broken as broken:
            self._recover(broken.cause)
            if len(calls) > 1 and broken.may_be_one_s_own_fault:
                for call in calls:
                    self._work([call])
                return
            for call in calls:
                call.error = translate(broken.cause, at_commit=broken.at_commit)
        except Exception as error:
            self._let_go()
            for call in calls:
                call.error = error

    def _write(self, calls: list[_Call]) -> None:
        """One transaction with all of *calls*.

        Raises:  _Broken; Unavailable when there is no store to write to.
        """
        try:
            db = self._connection()
            calls = self._admitted(db, calls)
            if not calls:
                return
            db.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            raise _Broken(error) from error
        if len(calls) == 1:
            self._operate_alone(db, calls[0])
        else:
            for call in calls:
                self._operate(db, call)
        if not db.in_transaction:
            return
        try:
            db.execute("COMMIT")
        except apsw.Error as error:
            raise _Broken(error, at_commit=True) from error

    def _connection(self) -> apsw.Connection:
        if self._db is None:
            self._db = self._connect()
            self._around.opened(self._db)
        self._around.before(self._db)
        return self._db

    def _admitted(self, db: apsw.Connection, calls: list[_Call]) -> list[_Call]:
        if not any(call.grows for call in calls) or self._around.may_grow(db):
            return calls
        for call in calls:
            if call.grows:
                call.error = StorageFull("the disk of the store is full; nothing was written")
        return [call for call in calls if not call.grows]

    def _operate_alone(self, db: apsw.Connection, call: _Call) -> None:
        """The only one of its transaction, which is its savepoint too."""
        call.error = None
        try:
            call.result = call.operation(db)
            if not db.in_transaction:
                raise apsw.SQLError("the operation has ended its own transaction")
        except apsw.Error as error:
            raise _Broken(error) from error
        except Exception as error:
            if not db.in_transaction:
                raise
            call.error = error
            self._roll_back(db)

    def _roll_back(self, db: apsw.Connection) -> None:
        try:
            db.execute("ROLLBACK")
        except apsw.Error as error:
            raise _Broken(error) from error

    def _operate(self, db: apsw.Connection, call: _Call) -> None:
        call.error = None
        try:
            db.execute("SAVEPOINT operation")
            try:
                call.result = call.operation(db)
            except Exception as error:
                if not db.in_transaction:
                    raise
                db.execute("ROLLBACK TO operation")
                if isinstance(error, apsw.Error):
                    raise
                call.error = error
            db.execute("RELEASE operation")
        except apsw.Error as error:
            raise _Broken(error) from error

    def _let_go(self) -> None:
        _drop(self._db)
        self._db = None

    def _recover(self, cause: apsw.Error) -> None:
        """Leave the broken transaction; a connection that may be at fault is made anew at the next call."""
        if isinstance(cause, apsw.FullError):
            self._around.full()
        if isinstance(cause, _DAMAGED):
            self._damaged()
        try:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except apsw.Error:
            self._let_go()
        if isinstance(cause, (*_GONE, *_DAMAGED, apsw.NoMemError)):
            self._let_go()


def _drop(db: apsw.Connection | None) -> None:
    """Let go of *db*, whatever state it is in."""
    if db is not None:
        try:
            db.close(force=True)
        except apsw.Error:
            # It is gone as far as we can make it so.
            return
