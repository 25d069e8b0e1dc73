"""SQLite with one writer.

One thread owns the one connection that writes and checkpoints the WAL; it takes whatever writes are
waiting, runs each in a savepoint of one `BEGIN IMMEDIATE` transaction, commits once for all of
them, and only then answers. Brief writes it lends the connection to, for the thread of their event
loop, and waits; those that came meanwhile are done with them. Readers use a pool of connections
that cannot write. No two connections ever write or checkpoint at the same time, which is also what
keeps the WAL-reset bug of SQLite before 3.51.3 away.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from server.database.engines import READERS, driver_of, read_connection, read_engine, write_engine
from server.database.presence import DatabaseTakenAway, Presence
from server.database.rescue import rescue
from server.database.trouble import log_failure

Result = TypeVar("Result")
Work = Callable[[Connection], Any]
MOST_IN_GROUP = 256  # writes of one commit
MOST_AT_ONCE = 32  # brief writes between two looks of the event loop at its other work

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    work: Work
    answer: "Future[Any] | asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop | None = None  # on whose thread the work is done


class _Outcome(NamedTuple):
    """How a write ended, for the one who waits for it."""

    answer: "Future[Any] | asyncio.Future[Any]"
    result: Any = None
    error: Exception | None = None


class Database:
    """The one process's way to its database file. Close it to end the writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing = write_engine(path)
        self._reading = read_engine(path)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._is_ending = False
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="database-reader")
        self._writer = threading.Thread(
            target=self._write_loop, name="database-writer", daemon=True
        )
        self._looking: sqlite3.Connection | None = None
        self._closed = False
        self._presence = Presence(path)
        self._taken_away: DatabaseTakenAway | None = None
        self.commits = 0  # so far
        self.busy_since: float | None = None  # when the transaction under way began [s, monotonic]

    def open(self) -> None:
        """Start the writer."""
        self._writer.start()

    def close(self) -> None:
        """Finish the waiting writes and end. Not on the thread of an event loop that has some."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            if self._writer.is_alive():
                self._writer.join()
            self._readers.shutdown()
            if self._looking is not None:
                self._looking.close()
            self._reading.dispose()
            self._writing.dispose()

    async def write(self, work: Callable[[Connection], Result], *, brief: bool = False) -> Result:
        """Run `work` in a write transaction; returns once it is durable.

        Args:
            brief: it takes well under a millisecond, and is done on the thread of the event loop
                while the writer waits. Two threads that both want the interpreter hand it over at
                each statement, which takes longer than the statements.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        self._queue.put(_Waiting(work, answer, loop if brief else None))
        return await answer

    def submit(self, work: Callable[[Connection], Result]) -> "Future[Result]":
        """As `write`, for callers that are not coroutines."""
        answer: Future[Result] = Future()
        self._queue.put(_Waiting(work, answer))
        return answer

    async def read(self, work: Callable[[Connection], Result]) -> Result:
        """Run `work` on a connection that sees one consistent, committed state."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self.read_now, work)

    def read_now(self, work: Callable[[Connection], Result]) -> Result:
        """As `read`, in the calling thread."""
        with self._reading.connect() as connection:
            return work(connection)

    def look(self, query: str, *parameters: object) -> Any:
        """The first row of a plain query by primary key, at once and on the thread of the event
        loop: it takes less time than the way to another thread.
        """
        if self._looking is None:
            self._looking = read_connection(self.path)
        return self._looking.execute(query, parameters).fetchone()

    @property
    def waiting_writes(self) -> int:
        """Writes that wait for the writer."""
        return self._queue.qsize()

    def _write_loop(self) -> None:
        while not self._is_ending and (first := self._queue.get()) is not None:
            self._commit_together([first])

    def _take_waiting(self, group: list[_Waiting]) -> list[_Waiting]:
        """Add to a group what waits; returns what was added."""
        added: list[_Waiting] = []
        while len(group) < MOST_IN_GROUP and not self._is_ending:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                self._is_ending = True
            else:
                group.append(waiting)
                added.append(waiting)
        return added

    def _commit_together(self, group: list[_Waiting]) -> None:
        """One transaction of a group, which grows until it is committed; a write that fails is
        rolled back alone, the others stand.

        Some failures (a full disk) make SQLite roll back the whole transaction: then, as when it
        cannot begin or commit, nobody in the group is told that anything was written.
        """
        outcomes: list[_Outcome] = []
        todo = deque(group)
        self.busy_since = time.monotonic()
        try:
            if self._taken_away is not None:
                raise self._taken_away
            self._presence.check_untouched()
            with self._writing.begin() as connection:
                while todo:
                    todo.extend(self._take_waiting(group))
                    if (loop := todo[0].loop) is None:
                        outcomes += _run_each(connection, [todo.popleft()])
                    else:
                        outcomes += _run_on(
                            loop, partial(self._run_brief, connection, loop, group, todo)
                        )
            self.commits += 1
            self._presence.check()
        except DatabaseTakenAway as error:
            if self._taken_away is None:
                self._taken_away = error
                logger.critical("%s", error)
                rescue(self.path, self._writing)
            outcomes = [_Outcome(waiting.answer, error=error) for waiting in group]
        except Exception as error:  # noqa: BLE001 - for those who wait
            log_failure(logger, "a transaction failed", error)
            outcomes = [_Outcome(waiting.answer, error=error) for waiting in group]
        finally:
            self.busy_since = None
        for loop, several in groupby(outcomes, key=_loop_of):
            if loop is None:
                _tell(several)
            else:  # wakes the loop once for all of them
                with contextlib.suppress(RuntimeError):  # it is closed, and nobody waits any more
                    loop.call_soon_threadsafe(_tell, list(several))

    def _run_brief(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        group: list[_Waiting],
        todo: deque[_Waiting],
    ) -> list[_Outcome]:
        """The loop's writes at the front, with those that it has put behind them meanwhile."""
        todo.extend(self._take_waiting(group))
        front: list[_Waiting] = []
        while todo and todo[0].loop is loop and len(front) < MOST_AT_ONCE:
            front.append(todo.popleft())
        return _run_each(connection, front)


def _run_each(connection: Connection, writes: Iterable[_Waiting]) -> list[_Outcome]:
    outcomes: list[_Outcome] = []
    driver = driver_of(connection)
    for waiting in writes:
        if not _is_awaited(waiting.answer):
            continue
        driver.execute("SAVEPOINT of_one")
        try:
            outcomes.append(_Outcome(waiting.answer, waiting.work(connection)))
        except Exception as error:
            if not driver.in_transaction:
                raise
            driver.execute("ROLLBACK TO of_one")
            # A coroutine cannot be told of a StopIteration.
            told = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
            outcomes.append(_Outcome(waiting.answer, error=told))
        driver.execute("RELEASE of_one")
    return outcomes


def _run_on(loop: asyncio.AbstractEventLoop, function: Callable[[], Result]) -> Result:
    """Call a function on the thread of an event loop, and wait for it."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(function())
        except Exception as error:  # noqa: BLE001 - for the writer, who waits
            done.set_exception(error)
        except BaseException as error:
            done.set_exception(RuntimeError(repr(error)))  # the writer must not end of it
            raise

    loop.call_soon_threadsafe(run)
    return done.result()


def _is_awaited(answer: "Future[Any] | asyncio.Future[Any]") -> bool:
    if isinstance(answer, Future):
        return answer.set_running_or_notify_cancel()
    return not answer.cancelled()


def _loop_of(outcome: _Outcome) -> asyncio.AbstractEventLoop | None:
    answer = outcome.answer
    return answer.get_loop() if isinstance(answer, asyncio.Future) else None


def _tell(outcomes: Iterable[_Outcome]) -> None:
    for outcome in outcomes:
        if outcome.answer.done():
            continue  # nobody waits any more
        if outcome.error is None:
            outcome.answer.set_result(outcome.result)
        else:
            outcome.answer.set_exception(outcome.error)
