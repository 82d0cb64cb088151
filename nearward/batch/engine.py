"""The interface between a scoring job and the workers that score its shards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from nearward.batch.sharding import Shard

# rows; the worker's start; the model's folder; writing the output; another job has the folder
ErrorKind = Literal["input", "setup", "model", "disk", "taken over"]


@dataclass(frozen=True)
class WorkerReply:
    """A worker's answer to one shard.

    Parameters
    ----------
    pid : int
    peak_memory : float, bytes
    error : str, optional
        Why the shard was not scored.
    kind : optional, of the error
    """

    pid: int
    peak_memory: float
    error: str | None = None
    kind: ErrorKind | None = None


@dataclass(frozen=True)
class ShardOutcome:
    """The end of one attempt at a shard.

    Parameters
    ----------
    shard : Shard
    reply : WorkerReply or None
        None where the worker died.
    cause : str, of its death
    """

    shard: Shard
    reply: WorkerReply | None
    cause: str = ""


class Engine(Protocol):
    """A pool of workers."""

    def free_workers(self) -> int:
        """Return how many more shards can be submitted now."""

    def submit(self, shard: Shard) -> None:
        """Send a shard to an idle worker, started if necessary."""

    def wait(self) -> list[ShardOutcome]:
        """Block until at least one submitted shard has ended; return at once where none is running."""

    def close(self) -> None:
        """Stop the workers."""
