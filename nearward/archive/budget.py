"""What a fit of an archive will take: memory, time and disk, before it begins; and blocks and tasks at a time that its limit allows.

The constants are peaks that were measured or counted (docs/benchmarks/large-archives.md), rounded up. Memory is that of the process
without pages of mapped files, which the system gives back where they are needed elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from nearward.batch.memory import format_size
from nearward.risk_model.effort import expected_seconds, spell_seconds
from nearward.tabular.errors import InputError

_LIBRARIES = 500e6  # bytes of the process before a row is read, and of the vectors that are too few for a file
_TASK, _MOST_TASKS = 250e6, 5  # bytes of a fold's or shard's task: contexts, clustering, embedding; no step has more than a task a fold
_TAUGHT, _TAUGHT_VALUE = 4e3, 150.0  # bytes for each row that teaches (contexts), and for each of its values (encodings, learners)
_ROW = 320.0  # bytes for each row of the archive: outcome, patient, fold, shard, weight, index; 150 of them stay, others come and go
_BLOCK_VALUE = 110.0  # bytes for each value of a block: as read, as conformed, as encoded, as embedded
MOST_BLOCK_ROWS, _FEWEST_BLOCK_ROWS = 65_536, 4_096
_READ_SECONDS = 6e-7  # for each value of the archive: read and checked once, read and encoded once more
_EMBED_SECONDS = 4e-5  # for each row: embedded by one encoder
_WIDTH = 64  # of an embedding, at most
_RECORD_VALUE, _RECORD = 2.0, 20.0  # bytes on disk for each value, and each row, of the stored records


@dataclass(frozen=True)
class Budget:
    """What a fit of an archive is expected to take.

    Parameters
    ----------
    rows, taught, columns : int
    block_rows : int
        Rows that are read and embedded at a time.
    tasks : int
        Tasks that run at a time.
    memory : float, bytes
    disk : float, bytes, of the model; the work folder and temporary files need about twice as much meanwhile
    seconds : float
    """

    rows: int
    taught: int
    columns: int
    block_rows: int
    tasks: int
    memory: float
    disk: float
    seconds: float

    def spelled(self) -> str:
        """Return the budget as text."""
        return (
            f"{spell_seconds(self.seconds)}, {format_size(self.memory)} of memory, {format_size(self.disk)} on disk and twice as much "
            "meanwhile"
        )


def plan_budget(rows: int, most_taught: int, columns: int, effort: str, cpus: int, limit: float | None) -> Budget:
    """Return what a fit is expected to take, with the greatest blocks, and the most tasks at a time, that the limit allows.

    Parameters
    ----------
    rows : int, of the archive
    most_taught : int, rows that a fit learns from at most
    columns : int, features
    effort : str, of the fit
    cpus : int
    limit : float, optional, bytes

    Raises
    ------
    InputError
        The limit cannot be met; the message says what is needed.

    Examples
    --------
    >>> plan = plan_budget(10_000_000, 100_000, 30, "default", 2, 8e9)
    >>> plan.block_rows, plan.tasks
    (65536, 2)
    >>> plan_budget(10_000_000, 100_000, 30, "default", 2, 1e9)
    Traceback (most recent call last):
    nearward.tabular.errors.InputError: max_memory=1.0GB is too little: this fit needs about ...GB (...)
    """
    taught = min(rows, most_taught)
    learning, tables = (_TAUGHT + _TAUGHT_VALUE * max(columns, 1)) * taught, _ROW * rows
    block_rows, tasks = MOST_BLOCK_ROWS, min(cpus, _MOST_TASKS)

    def parts() -> dict[str, float]:
        return {
            "for the program": _LIBRARIES,
            f"to learn from {taught} rows of {columns} columns": learning,
            f"for numbers of {rows} rows": tables,
            "for a block": _BLOCK_VALUE * max(columns, 1) * min(block_rows, rows),
            f"for {tasks} task{'s' * (tasks > 1)} at a time": _TASK * tasks,
        }

    if limit is not None:
        while block_rows > _FEWEST_BLOCK_ROWS and sum(parts().values()) > limit:
            block_rows //= 2
        while tasks > 1 and sum(parts().values()) > limit:
            tasks -= 1
    memory = sum(parts().values())
    if limit is not None and memory > limit:
        listed = ", ".join(f"{format_size(size)} {name}" for name, size in parts().items())
        raise InputError(f"max_memory={format_size(limit)} is too little: this fit needs about {format_size(memory)} ({listed})")
    return Budget(
        rows=rows,
        taught=taught,
        columns=columns,
        block_rows=block_rows,
        tasks=tasks,
        memory=memory,
        disk=rows * (4 * _WIDTH + 24 + _RECORD + _RECORD_VALUE * columns),
        seconds=expected_seconds(taught, columns, effort, cpus) + rows * (_READ_SECONDS * columns + _EMBED_SECONDS / min(cpus, 2)),
    )
