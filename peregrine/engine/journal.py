"""Owns what runs say while they run: the newest lines, the progress, and who wants to be woken by them. Must not know
who reads, or where it is kept."""

from __future__ import annotations

from collections.abc import Callable

from peregrine.domain.execution import Claim
from peregrine.domain.ids import ExecutionId
from peregrine.domain.journal import CHARS_MAX, LINE_CHARS_MAX, LINES_MAX, Line, Progress, Said
from peregrine.domain.moment import Moment
from peregrine.engine.belief import text_of


class Journal:
    """The words of one run: its newest ``LINES_MAX`` lines, at most ``CHARS_MAX`` characters of them."""

    def __init__(self, claim: Claim, *, now: Callable[[], Moment], on_word: Callable[[ExecutionId], None]) -> None:
        self.key = (claim.execution_id, claim.epoch)
        self.progress: Progress | None = None
        self._attempt = claim.attempt
        self._now = now
        self._on_word = on_word
        self._lines: list[Line] = []
        self._count = 0
        self._chars = 0
        self._is_closed = False

    def log(self, line: object) -> None:
        """Keep *line*; the oldest make room."""
        if self._is_closed:
            return
        text = text_of(line)[:LINE_CHARS_MAX]
        self._count += 1
        self._chars += len(text)
        self._lines.append(Line(self._count, self._now(), text))
        while len(self._lines) > LINES_MAX or self._chars > CHARS_MAX:
            self._chars -= len(self._lines.pop(0).text)
        self._on_word(self.key[0])

    def step(self, fraction: float, text: object) -> None:
        """Keep how far it is, 0 to 1."""
        if self._is_closed:
            return
        self.progress = Progress(min(1.0, max(0.0, fraction)), text_of(text)[:LINE_CHARS_MAX])
        self._on_word(self.key[0])

    def close(self) -> None:
        """Drop whatever is still said: the outcome is given."""
        self._is_closed = True

    @property
    def is_silent(self) -> bool:
        """Whether nothing was said."""
        return self._count == 0 and self.progress is None

    def said(self) -> Said:
        """All that is kept."""
        return Said(
            attempt=self._attempt, epoch=self.key[1], lines=tuple(self._lines), progress=self.progress
        )  # fmt: skip


class Journals:
    """The ``RunJournal`` of one engine."""

    def __init__(self, now: Callable[[], Moment]) -> None:
        self._now = now
        self._newest: dict[ExecutionId, Journal] = {}
        self._watchers: dict[ExecutionId, list[Callable[[], None]]] = {}

    def open(self, claim: Claim) -> Journal:
        """The journal of a run that begins; from now on it is what readers of its execution read."""
        journal = Journal(claim, now=self._now, on_word=self._wake)
        self._newest[claim.execution_id] = journal
        if self._watchers:
            self._wake(claim.execution_id)
        return journal

    def forget(self, journal: Journal) -> None:
        """What it says is stored, or never will be."""
        id = journal.key[0]
        if self._newest.get(id) is journal:
            del self._newest[id]
            if self._watchers:
                self._wake(id)

    def read(self, execution_id: ExecutionId) -> Said | None:
        journal = self._newest.get(execution_id)
        return None if journal is None else journal.said()

    def watch(self, execution_id: ExecutionId, wake: Callable[[], None]) -> Callable[[], None]:
        watchers = self._watchers.setdefault(execution_id, [])
        watchers.append(wake)

        def stop() -> None:
            if wake in watchers:
                watchers.remove(wake)
            if not watchers and self._watchers.get(execution_id) is watchers:
                del self._watchers[execution_id]

        return stop

    def wake_all(self) -> None:
        """Tell everybody that watches: nothing runs here any more."""
        for id in tuple(self._watchers):
            self._wake(id)

    def _wake(self, id: ExecutionId) -> None:
        if id not in self._watchers:
            return
        for wake in tuple(self._watchers[id]):
            try:
                wake()
            except Exception:  # a reader that fails must not keep a run from starting, or its end from being stored
                pass
