"""Run one function over many items: in parallel, resumable, and whole even if an item kills its worker.

- Results are written to a journal as they come, each line under a checksum. A killed run leaves at worst one
  torn line, and the next run does only what is missing.
- Any `concurrent.futures` executor will do; without one, a pool of processes here (or none, for a handful of
  items).
- A pool that breaks is rebuilt, and the items it held are tried one by one: the one that breaks it again is
  named. It is not journalled, so the next run tries it again: memory may have been short.
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

_INLINE = 8
_CRASHED = object()


def run(
    function: Callable[..., Any],
    items: dict[str, tuple[Any, ...]],
    journal: Path,
    *,
    label: str,
    crashed: Callable[..., Any],
    executor: Executor | None = None,
    workers: int | None = None,
    quiet: bool = False,
    inline: int = _INLINE,
) -> dict[str, Any]:
    """{key: function(*arguments)} for every {key: arguments} of `items`; results are JSON values.

    inline: items a worker must have before a pool pays for its start. A key names everything that its result
    depends on: what `journal` holds under it is not computed again. `crashed` (called like `function`) is the
    result of an item that kills its worker. Exceptions of `function` end the run; so does KwelaError if no
    worker can start.
    """
    known = recall(journal)
    results = {key: known[key] for key in items if key in known}
    left = {key: items[key] for key in items if key not in results}
    workers = min(workers or os.cpu_count() or 1, -(-len(left) // inline))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    journal.parent.mkdir(parents=True, exist_ok=True)
    with (
        journal.open("ab") as file,
        Progress(*columns, console=Console(stderr=True), disable=quiet) as progress,
    ):
        bar = progress.add_task(label, total=len(items), completed=len(results))
        for key, value in _compute(function, left, executor, workers):
            progress.advance(bar)
            if value is _CRASHED:
                results[key] = crashed(*items[key])
                continue
            results[key] = value
            file.write(_line(key, value))
            file.flush()
    return {key: results[key] for key in items}


def recall(journal: Path) -> dict[str, Any]:
    """Return the results in a journal. Lines that fail their checksum are left out."""
    found = {}
    for line in journal.read_bytes().splitlines() if journal.is_file() else []:
        checksum, _, text = line.partition(b" ")
        if text and checksum == b"%08x" % zlib.crc32(text):
            key, value = json.loads(text)
            found[key] = value
    return found


def forget(journal: Path, keep: Iterable[str]) -> None:
    """Cut the journal back to the results under `keep`."""
    known = recall(journal)
    files.write(journal, b"".join(_line(key, known[key]) for key in keep if key in known), durable=False)


def _line(key: str, value: Any) -> bytes:
    text = json.dumps([key, value]).encode()
    return b"\n%08x %s\n" % (
        zlib.crc32(text),
        text,
    )  # the first newline ends a line that a killed run left torn


def _compute(
    function: Callable[..., Any], items: dict[str, tuple[Any, ...]], executor: Executor | None, workers: int
) -> Iterator[tuple[str, Any]]:
    if executor is not None:
        yield from _through(executor, function, items, 64)
        return
    if workers <= 1 or not _can_start_workers():
        yield from ((key, function(*arguments)) for key, arguments in items.items())
        return
    left = dict(items)
    while left:
        with _pool(workers) as pool:
            try:
                for key, value in _through(pool, function, left, 4 * workers):
                    yield key, value
                    del left[key]
                continue
            except BrokenExecutor:
                pass
            except BaseException:  # a signal, most likely: what is queued need not be waited for
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for key in list(left)[: 4 * workers]:  # what the pool held: submitted first, in order
            yield key, _alone(function, left.pop(key))


def _through(
    executor: Executor, function: Callable[..., Any], items: dict[str, tuple[Any, ...]], window: int
) -> Iterator[tuple[str, Any]]:
    """Results as they come, at most `window` items submitted at a time."""
    queue = iter(list(items.items()))
    waiting: dict[Future[Any], str] = {}
    while True:
        for key, arguments in queue:
            waiting[executor.submit(function, *arguments)] = key
            if len(waiting) >= window:
                break
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            yield waiting.pop(future), future.result()


def _alone(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    with _pool(1) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenExecutor:
            return _CRASHED


def _can_start_workers() -> bool:
    """Return whether a worker can import the program's main file: a program read from stdin has none."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    return main is None or Path(main).is_file()


def _pool(workers: int) -> ProcessPoolExecutor:
    """Start a pool. Its workers are known to start, so an item is what breaks it later."""
    context = multiprocessing.get_context(
        "forkserver"
    )  # a fork of this process could inherit locks held by threads
    context.set_forkserver_preload(["kwela.corpus.pairs.validation"])
    pool = ProcessPoolExecutor(workers, context, _start_worker)
    try:
        pool.submit(os.getpid).result()
    except BrokenExecutor:
        pool.shutdown()
        raise KwelaError(
            "worker processes can't start (their reason stands above); --workers 1 does without"
        ) from None
    return pool


def _start_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker with its parent. After a killed parent it would wait for its next item for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
