"""Run one function over many items in parallel.

- Each result is written to a journal as soon as it is known, on a line with a checksum. A killed run leaves
  one torn line at most, and the next run computes only what is missing.
- The caller may give any `concurrent.futures` executor. Without one, this module starts a pool of processes,
  or computes a few items in this process.
- If an item kills its worker, the pool breaks. Then the items that were submitted are computed one by one,
  each in a new worker, so the item that crashes is known. Its result is not written to the journal: the
  cause may have been a lack of memory, so the next run tries it again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kwela import files
from kwela.errors import KwelaError

_MIN_ITEMS_PER_WORKER = 8
_CRASHED = object()


def run(
    function: Callable[..., Any],
    items: dict[str, tuple[Any, ...]],
    journal: Path,
    *,
    label: str,
    result_of_crash: Callable[..., Any],
    executor: Executor | None = None,
    workers: int | None = None,
    quiet: bool = False,
    min_items_per_worker: int = _MIN_ITEMS_PER_WORKER,
) -> dict[str, Any]:
    """Return {key: function(*arguments)} for every {key: arguments} of `items`.

    function: it must return a JSON value. A key must name everything that its result depends on, because a
    result that `journal` has under that key is not computed again. result_of_crash: it is called like
    `function`, for an item that kills its worker, and returns the result of that item. min_items_per_worker:
    with fewer items, starting a worker takes longer than it saves. label: text of the progress bar.
    Raises what `function` raises, and KwelaError if no worker can start.
    """
    known = read_journal(journal)
    results = {key: known[key] for key in items if key in known}
    pending = {key: items[key] for key in items if key not in results}
    workers = min(workers or os.cpu_count() or 1, -(-len(pending) // min_items_per_worker))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    journal.parent.mkdir(parents=True, exist_ok=True)
    with (
        journal.open("ab") as file,
        Progress(*columns, console=Console(stderr=True), disable=quiet) as progress,
    ):
        progress_task = progress.add_task(label, total=len(items), completed=len(results))
        for key, value in _compute(function, pending, executor, workers):
            progress.advance(progress_task)
            if value is _CRASHED:
                results[key] = result_of_crash(*items[key])
                continue
            results[key] = value
            file.write(_journal_line(key, value))
            file.flush()
    return {key: results[key] for key in items}


def read_journal(journal: Path) -> dict[str, Any]:
    """Return the results in a journal. Lines that fail their checksum are left out."""
    found = {}
    for line in journal.read_bytes().splitlines() if journal.is_file() else []:
        checksum, _, text = line.partition(b" ")
        if text and checksum == b"%08x" % zlib.crc32(text):
            key, value = json.loads(text)
            found[key] = value
    return found


def prune_journal(journal: Path, keep: Iterable[str]) -> None:
    """Delete every result from the journal whose key is not in `keep`."""
    known = read_journal(journal)
    files.write(
        journal, b"".join(_journal_line(key, known[key]) for key in keep if key in known), durable=False
    )


def _journal_line(key: str, value: Any) -> bytes:
    text = json.dumps([key, value]).encode()
    # A killed run may have left a torn line. The first newline ends it.
    return b"\n%08x %s\n" % (zlib.crc32(text), text)


def _compute(
    function: Callable[..., Any], items: dict[str, tuple[Any, ...]], executor: Executor | None, workers: int
) -> Iterator[tuple[str, Any]]:
    if executor is not None:
        yield from _results_as_they_come(executor, function, items, 64)
        return
    if workers <= 1 or not _can_start_workers():
        yield from ((key, function(*arguments)) for key, arguments in items.items())
        return
    pending = dict(items)
    while pending:
        with _pool(workers) as pool:
            try:
                for key, value in _results_as_they_come(pool, function, pending, 4 * workers):
                    yield key, value
                    del pending[key]
                continue
            except BrokenExecutor:
                pass
            except BaseException:
                # This is most likely a signal. The items that no worker has begun are not waited for.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        # Items are submitted in order, so those that the broken pool had are the first ones.
        for key in list(pending)[: 4 * workers]:
            yield key, _compute_alone(function, pending.pop(key))


def _results_as_they_come(
    executor: Executor, function: Callable[..., Any], items: dict[str, tuple[Any, ...]], max_submitted: int
) -> Iterator[tuple[str, Any]]:
    """Yield each result as soon as it is known. At most `max_submitted` items are submitted at a time."""
    queue = iter(list(items.items()))
    waiting: dict[Future[Any], str] = {}
    while True:
        for key, arguments in queue:
            waiting[executor.submit(function, *arguments)] = key
            if len(waiting) >= max_submitted:
                break
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            yield waiting.pop(future), future.result()


def _compute_alone(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    with _pool(1) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenExecutor:
            return _CRASHED


def _can_start_workers() -> bool:
    """Return whether a worker can import the program's main file. A program from stdin has none."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    return main is None or Path(main).is_file()


def _pool(workers: int) -> ProcessPoolExecutor:
    """Start a pool and check that a worker can start. If the pool breaks later, an item has broken it."""
    # A plain fork of this process could copy a lock that another thread has taken, and then wait for ever.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kwela.corpus.pairs.validation"])
    pool = ProcessPoolExecutor(workers, context, _start_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenExecutor:
        pool.shutdown()
        raise KwelaError(
            "worker processes can't start (the reason is printed above); use --workers 1 to run without them"
        ) from None
    return pool


def _start_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # The workers already use every core.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent has ended. Otherwise it would wait for its next item for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
