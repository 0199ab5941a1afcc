"""Which tasks a training gives account of: its pipeline is the same for every run, and not all have a part in each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from trilho.core.records import TaskResult
from trilho.train.plan import COMPARISON, WINDOW

EXIT = re.compile(r"^exit-handler-\d+/")


def told(tasks: Sequence[TaskResult], names: Iterable[str] = (), *, compared: bool, windowed: bool) -> list[TaskResult]:
    """Leave out a comparison without a champion, and a window that is all of the history.

    The comparison's tasks go by their own names: that they are in a block of the pipeline is nothing to be told, and
    neither is the block that an on_exit() of the project's puts around all.
    `names` are those of the whole pipeline, where `tasks` are some of it.

    >>> task = TaskResult(name="condition-1/score", state="ran", seconds=1.0, needs=["split"], reason="")
    >>> [x["name"] for x in told([task], compared=True, windowed=False)], told([task], compared=False, windowed=False)
    (['score'], [])
    """
    names = map(own_name, names)
    tasks = [TaskResult(**{**task, "name": own_name(task["name"]), "needs": [*map(own_name, task["needs"])]})
             for task in tasks]  # fmt: skip
    known = [*names, *(task["name"] for task in tasks)]
    blocks = {_block(name) for name in known if name.rpartition("/")[2] in COMPARISON} - {""}
    idle = {*blocks, *(() if windowed else WINDOW)}
    idle |= {name for name in known if not compared and _block(name) in blocks}
    before = {task["name"]: task["needs"] for task in tasks if task["name"] in idle}

    def plain(name: str) -> str:
        return name.rpartition("/")[2] if _block(name) in blocks else name

    def needs(task: TaskResult) -> list[str]:
        found = [name for need in task["needs"] for name in (before.get(need, ()) if need in idle else (need,))]
        return list(dict.fromkeys(plain(name) for name in found if name not in idle))

    shown = [task for task in tasks if task["name"] not in idle]
    return [TaskResult(**{**task, "name": plain(task["name"]), "needs": needs(task)}) for task in shown]


def own_name(name: str) -> str:
    """Give a task's name without the block that an exit task follows.

    >>> own_name("exit-handler-1/check"), own_name("exit-handler-1")
    ('check', 'exit-handler-1')
    """
    return EXIT.sub("", name)


def _block(name: str) -> str:
    return name.rpartition("/")[0]
