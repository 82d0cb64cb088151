"""The rows of an archive that teach nothing: read, stored as records and embedded block by block, each block once.

A finished block leaves its records and its embeddings in the work folder. A fit that goes on reads them, and not the archive.

Shapes: n rows of the archive, m of them others, b rows of a block, e embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
import safetensors.numpy

from nearward.adaptation.stored_patients import ID, OUTCOME, PATIENT
from nearward.archive.work_folder import WorkFolder
from nearward.risk_model.teaching_sample import Block
from nearward.risk_model.validation import patient_labels, stored_ids
from nearward.tabular.archive.files import Archive, FileBlock
from nearward.tabular.archive.inference import conform_block
from nearward.tabular.data.schema import Schema
from nearward.tabular.typing import Bools, Floats32, Ints, Progress


def stored_records(
    schema: Schema, frame: pl.DataFrame, rows: pl.DataFrame, outcome: Ints, row_numbers: Ints, group: str | None
) -> pl.DataFrame:
    """Return the records of rows as a model stores them: features (``rows``, conformed), id, outcome and patient.

    Parameters
    ----------
    schema : Schema
    frame : (b,) rows of the archive
    rows : the same rows, conformed
    outcome : (b,), 0 or 1
    row_numbers : (b,), in the archive: the ids where there is no column of ids
    group : str, optional
        Column of the patients; by default every row is a patient of its own.
    """
    ids = stored_ids(schema, frame) if schema.named("id") else pl.Series(row_numbers).cast(pl.String)
    patients = patient_labels(None, frame, None if group is None else frame.get_column(group), ids)
    return rows.with_columns(ids.alias(ID), pl.Series(OUTCOME, outcome), patients.alias(PATIENT))


@dataclass(frozen=True)
class ArchiveRows:
    """The rows of an archive beside the teaching sample; an ``OtherRows``.

    Parameters
    ----------
    archive : Archive
    schema : Schema
    group : str, optional
        Column of the patients.
    taught : (n,), the teaching sample
    outcome : (n,), 0 or 1
    patient_ids, fold : (m,), of the others in the order of the archive
    block_rows : int
    work : WorkFolder
    progress : called with a message after each block
    """

    archive: Archive
    schema: Schema
    group: str | None
    taught: Bools
    outcome: Ints
    patient_ids: Ints
    fold: Ints
    block_rows: int
    work: WorkFolder
    progress: Progress

    def blocks(self) -> Iterator[Block]:
        """Yield the rows in blocks; errors as ``Archive.read``."""
        begin, blocks = 0, self.archive.blocks(self.block_rows)
        for block in blocks:
            other = ~self.taught[block.span]
            part = slice(begin, begin + int(other.sum()))
            begin = part.stop
            if not other.any():
                continue

            def read(block: FileBlock = block, other: Bools = other) -> pl.DataFrame:
                return self._read(block, other)

            yield Block(read, self.outcome[block.span][other], self.patient_ids[part], self.fold[part], self._remember(block))
            self.progress(f"indexed {block.number + 1} of {len(blocks)} blocks")

    def records(self, taught: pl.DataFrame) -> pl.LazyFrame:
        """Return the records of the teaching sample with those of all blocks below them, which stay in their files."""
        paths = [self.work.part(_name("records", block)) for block in self.archive.blocks(self.block_rows)]
        return pl.concat([taught.lazy(), *(pl.scan_parquet(path, glob=False) for path in paths if path is not None)])

    def _read(self, block: FileBlock, other: Bools) -> pl.DataFrame:
        """Read and conform the other rows of a block, and write their records."""
        frame = self.archive.read(block, [column.name for column in self.schema.columns if column.role != "ignore"])
        rows = conform_block(self.schema, self.archive, block.file, frame)
        numbers = np.arange(block.first, block.first + block.rows)
        records = stored_records(self.schema, frame, rows, self.outcome[block.span], numbers, self.group).filter(pl.Series(other))

        self.work.save_part(_name("records", block), ".parquet", lambda path: records.write_parquet(path, statistics=False))
        return records.select(rows.columns)

    def _remember(self, block: FileBlock) -> Callable[[Callable[[], list[Floats32]]], list[Floats32]]:
        def remember(embed: Callable[[], list[Floats32]]) -> list[Floats32]:
            """Return the embeddings of a block by shard, from its file or by ``embed``."""
            path = self.work.part(_name("vectors", block)) if self.work.part(_name("records", block)) else None
            if path is None:
                vectors = {str(f): np.ascontiguousarray(one) for f, one in enumerate(embed())}
                path = self.work.save_part(_name("vectors", block), ".safetensors", lambda path: safetensors.numpy.save_file(vectors, path))
            loaded = safetensors.numpy.load_file(path)
            return [loaded[str(f)] for f in range(len(loaded))]

        return remember


def _name(kind: str, block: FileBlock) -> str:
    return f"{kind}-{block.number:06d}"
