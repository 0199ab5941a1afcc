"""Following a run elsewhere to its end, whatever happens to the line in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from trilho.core.ports import NoAccess, RemoteStatus, RemoteTask, Runner
from trilho.errors import Unreachable

LOOK_SECONDS = (1.0, 10.0)  # between two looks, at first and after a while
OFFLINE_SECONDS = 3600.0

OnStatus = Callable[[RemoteStatus], None]


def follow(
    runner: Runner,
    run: str,
    *,
    on_status: OnStatus = lambda _status: None,
    on_silence: Callable[[Unreachable], None] = lambda _error: None,
    offline_seconds: float = OFFLINE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> RemoteStatus:
    """Look at a run until it has ended, and give how.

    The run does not need us: when nobody answers, following goes on as soon as somebody does. Raises Unreachable when
    that takes longer than `offline_seconds`, and at once when it is our credentials that are refused.
    """
    begun = heard = time.monotonic()
    while True:
        try:
            status = runner.status(run)
        except NoAccess:
            raise
        except Unreachable as error:
            if time.monotonic() - heard > offline_seconds:
                raise Unreachable(error.fact, hint=f"the run goes on; trilho runs follow {run}") from error
            on_silence(error)
        else:
            heard = time.monotonic()
            on_status(status)
            if status.ended:
                return status
        sleep(_wait(time.monotonic() - begun))


def _wait(elapsed: float) -> float:
    """Look often while things begin, and a twentieth of the time that has passed later.

    >>> [_wait(seconds) for seconds in (0, 60, 3600)]
    [1.0, 3.0, 10.0]
    """
    first, most = LOOK_SECONDS
    return min(most, max(first, elapsed / 20))


def changes(before: RemoteStatus | None, now: RemoteStatus) -> list[RemoteTask]:
    """Give the tasks that are in another state than at the look before; those that wait are no news.

    >>> fit = RemoteTask(name="fit", state="running")
    >>> changes(None, RemoteStatus(state="running", tasks=(fit, RemoteTask(name="pack", state="pending"))))
    [RemoteTask(name='fit', state='running', seconds=0.0, error=None)]
    """
    known = {task.name: task.state for task in before.tasks} if before is not None else {}
    return [task for task in now.tasks if task.state not in ("pending", known.get(task.name))]
