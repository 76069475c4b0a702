"""Watch for the notice that a cloud gives before it takes a spot machine back."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kwela.machines.provider import Notice, any_notice

EVERY = 5.0  # seconds between two looks


def watch(
    call: Callable[[Notice], None],
    look: Callable[[], Notice | None] = any_notice,
    every: float = EVERY,
) -> Callable[[], None]:
    """Look every `every` seconds in a thread. At the first notice, call `call` in that thread once, and end.

    look: returns the notice, or None while there is none. Return a function that ends the watch. The thread
    does not delay the interpreter's exit.
    """
    done = threading.Event()

    def repeat() -> None:
        while not done.is_set():
            try:
                notice = look()
            except Exception:  # whatever a cloud's library raises: the next look may see the notice
                notice = None
            if notice and not done.is_set():
                done.set()
                call(notice)
                return
            done.wait(every)

    threading.Thread(target=repeat, name="spot-watch", daemon=True).start()
    return done.set
