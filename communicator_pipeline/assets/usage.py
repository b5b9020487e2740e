"""The asset `usage`."""

from typing import Any

import dagster as dg

from communicator_pipeline.assets.plots import bars
from communicator_pipeline.chain import usage as chain
from communicator_pipeline.engines.executor import on_queue
from communicator_pipeline.partitions import account_days
from communicator_pipeline.resources import StoresResource
from communicator_pipeline.storage.cloudflare_prices import AS_OF, Priced


@dg.asset(
    partitions_def=account_days,
    backfill_policy=dg.BackfillPolicy.single_run(),
    op_tags=on_queue("usage"),
    kinds={"parquet"},
    group_name="operating",
    owners=["team:inbox"],
    description="What an account took of Cloudflare's services on a day, at list prices.",
)
def usage(context: dg.AssetExecutionContext, stores: StoresResource) -> dg.MaterializeResult[Any]:
    opened = stores.open()
    chain.hand_over(opened)
    for key in sorted(context.partition_keys):
        account, day = key.split("|")
        rows = chain.materialise(opened, account, day)
        context.add_asset_metadata(_metadata(rows), partition_key=key)
    return dg.MaterializeResult()


def _metadata(rows: list[Priced]) -> dict[str, Any]:
    by_service: dict[str, float] = {}
    for row in rows:
        by_service[row.service] = by_service.get(row.service, 0.0) + row.usd
    metadata: dict[str, Any] = {
        "USD": round(sum(by_service.values()), 6),
        "prices of": AS_OF,
        "services": dg.MetadataValue.table(
            records=[
                dg.TableRecord(
                    {
                        "service": row.service,
                        "what": row.what,
                        "count": float(row.count),
                        "USD": round(row.usd, 6),
                    }
                )
                for row in rows
            ],
            schema=dg.TableSchema(
                [
                    dg.TableColumn("service", "string"),
                    dg.TableColumn("what", "string"),
                    dg.TableColumn("count", "float"),
                    dg.TableColumn("USD", "float"),
                ]
            ),
        ),
    }
    if any(by_service.values()):
        cents = [(service, round(usd * 100, 4)) for service, usd in sorted(by_service.items())]
        metadata["cost"] = dg.MetadataValue.md(bars(cents, "US cents by service"))
    return metadata
