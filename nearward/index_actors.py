"""An index divided over Ray actors: each holds one shard, every query goes to all of them, and the nearest are merged.

For a model whose index no worker can hold. The actor of a shard loads the model, whose large arrays are mapped files, and touches its own
shard's alone. Ray starts an actor that dies anew and repeats its search, with the same result: an index is a function of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nearward.retrieval.neighbors.binary import Retriever
from nearward.retrieval.neighbors.voting import Context, RetrievalSetting, concatenate_contexts
from nearward.risk_model.persistence import FittedState
from nearward.tabular.errors import ArtifactError, InputError
from nearward.tabular.operating_system import thread_environment
from nearward.tabular.persistence.artifact import model_hash
from nearward.tabular.typing import Bools, Floats

_RESTARTS = 3  # of an actor, and of one search
_START = 600.0  # seconds in which all actors must have loaded the model


class IndexActor:
    """Holds one shard of a model's index.

    Parameters
    ----------
    folder : path of the model's folder
    shard : int
    """

    def __init__(self, folder: str, shard: int) -> None:
        from nearward.loading import load

        model: Any = load(folder)
        self._retriever: Retriever = getattr(model, "model_", model).fitted_.model.retriever
        self._shard, self._digest = shard, model_hash(folder)

    def model_hash(self) -> str:
        """Return the hash of the model that was loaded."""
        return self._digest

    def contexts(self, embedding: Floats, settings: tuple[RetrievalSetting, ...]) -> list[Context]:
        """Return what the shard contributes to the contexts of embedded queries (q, e), for each setting."""
        return self._retriever.shard_contexts(self._shard, embedding, settings)


@dataclass(frozen=True)
class DividedRetriever(Retriever):
    """A retriever whose shards are searched by actors.

    Parameters
    ----------
    actors : one a shard
    """

    actors: tuple[Any, ...] = ()

    def without(self, removed: Bools) -> Retriever:  # type: ignore[override]
        """Return a retriever without some of its stored rows (mask, (n,)), searched here: the actors have all of them."""
        return Retriever(**{field.name: getattr(self, field.name) for field in fields(Retriever)}).without(removed)

    def search(self, embedded: list[tuple[Floats, Floats]], settings: tuple[RetrievalSetting, ...]) -> list[Context]:
        """Search all shards at once, and merge what they contribute."""
        import ray

        replies = [actor.contexts.remote(embedding, settings) for actor, (embedding, _) in zip(self.actors, embedded, strict=True)]
        try:
            return [concatenate_contexts(list(parts)) for parts in zip(*ray.get(replies), strict=True)]
        except ray.exceptions.RayActorError as error:
            raise ArtifactError(f"the actor of an index shard died {_RESTARTS + 1} times: too little memory?") from error


def start_index_actors(folder: Path, digest: str, shards: int, memory: float, threads: int) -> list[Any]:
    """Start an actor for each shard of a model's index, and wait until all of them have loaded the model.

    Parameters
    ----------
    folder : Path, that every node can read
    digest : str, hash of the model
    shards : int
    memory : float, bytes that an actor needs; Ray places it where they are free
    threads : int, of each actor

    Raises
    ------
    InputError
        The cluster has no room for them.
    ArtifactError
        A node reads another model under this path.
    """
    import ray

    actor: Any = ray.remote(IndexActor).options(
        num_cpus=threads,
        memory=int(memory),
        scheduling_strategy="SPREAD",
        max_restarts=_RESTARTS,
        max_task_retries=_RESTARTS,
        runtime_env={"env_vars": thread_environment(threads)},
    )
    actors = [actor.remote(str(folder.resolve()), shard) for shard in range(shards)]
    try:
        hashes = ray.get([one.model_hash.remote() for one in actors], timeout=_START)
    except ray.exceptions.GetTimeoutError as error:
        needs = f"{shards} actors of {threads} CPUs and {memory / 1e9:.1f} GB each"
        raise InputError(f"the Ray cluster has no room for the index: it needs {needs}") from error
    except ray.exceptions.RayError as error:
        raise ArtifactError(f"the model cannot be loaded by the Ray actors of its index: {str(error).splitlines()[-1]}") from error
    if set(hashes) != {digest}:
        raise ArtifactError(f"{folder}: a node of the Ray cluster reads another model under this path")
    return actors


def divide_index(fitted: FittedState, actors: Sequence[Any]) -> FittedState:
    """Return a fitted model whose shards are searched by actors."""
    model: Any = fitted.model
    parts = {field.name: getattr(model.retriever, field.name) for field in fields(Retriever)}
    return replace(fitted, model=replace(model, retriever=DividedRetriever(**parts, actors=tuple(actors))))
