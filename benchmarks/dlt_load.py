"""Loading rows into DuckDB with dlt: what the import is compared with.

Runs in `benchmarks/.venv`, where dlt is and Communicator is not.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

with suppress(ImportError):  # whoever starts the child knows this module's names only
    import dlt
    import pyarrow as pa
    import pyarrow.parquet as pq


def load_dicts(folder: str, rows: int) -> int:
    """dlt's default: rows as Python dicts."""
    table = _rows(folder, rows)
    batches = (batch.to_pylist() for batch in table.to_batches(max_chunksize=10_000))
    return _load(Path(folder), "dicts", batches)


def load_arrow(folder: str, rows: int) -> int:
    """dlt's fast lane: Arrow tables."""
    return _load(Path(folder), "arrow", iter([_rows(folder, rows)]))


def _rows(folder: str, rows: int) -> Any:
    """Envelopes as the import landed them, payloads as text; DuckDB has no room for hashes."""
    tables: list[Any] = []
    columns = "day message_id channel_id channel_kind kind version_at payload origin".split()
    for path in sorted(Path(folder, "landing").rglob("*.parquet")):
        if sum(t.num_rows for t in tables) >= rows:
            break
        tables.append(pq.read_table(path, columns=columns, partitioning=None))
    table = pa.concat_tables(tables).slice(0, rows)
    place = table.column_names.index("payload")
    return table.set_column(place, "payload", table["payload"].cast(pa.string()))


def _load(folder: Path, name: str, items: Any) -> int:
    pipeline = dlt.pipeline(
        pipeline_name=f"bench_{name}",
        pipelines_dir=str(folder / "dlt"),
        destination=dlt.destinations.duckdb(str(folder / f"{name}.duckdb")),
        dataset_name="bench",
    )
    pipeline.run(items, table_name="messages", write_disposition="replace").raise_on_failed_jobs()
    with pipeline.sql_client() as client:
        return int(client.execute_sql("SELECT count(*) FROM messages")[0][0])
