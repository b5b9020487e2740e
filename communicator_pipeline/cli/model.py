"""`communicator model`: which language model reads and drafts, and what it took."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer
from pydantic import BaseModel, ConfigDict

from communicator_pipeline.cli.output import (
    AsJson,
    acting_user,
    err,
    errors_in_words,
    escaped,
    fail,
    out,
    plain_table,
    print_json,
    stores,
)
from communicator_pipeline.language_model.asking import Prompt
from communicator_pipeline.language_model.configuration import (
    KEY_VARIABLE,
    ModelConfig,
    ModelsConfig,
    configured,
    keep_configuration,
    key_of,
    read_configuration,
)
from communicator_pipeline.language_model.endpoints import connect
from communicator_pipeline.language_model.keeping import usage_since
from communicator_pipeline.language_model.limits import trouble_with, unblock
from communicator_pipeline.language_model.model import BUDGET_SETTING
from communicator_pipeline.language_model.prices import price_of, priced
from communicator_pipeline.storage import Stores
from communicator_pipeline.storage.settings import Settings

app = typer.Typer(
    help="The language model that reads and drafts; none: the offline analyser does.",
    no_args_is_help=True,
)


@app.command("set")
def set_model(
    model: Annotated[str, typer.Argument(help="Its name, such as llama3.2 or @cf/meta/…")],
    url: Annotated[
        str, typer.Option("--url", help="The server's address, such as http://127.0.0.1:11434/v1")
    ] = "",
    workers_ai: Annotated[
        str, typer.Option("--workers-ai", metavar="ACCOUNT_ID", help="Cloudflare's Workers AI.")
    ] = "",
    second: Annotated[
        bool, typer.Option("--second", help="The one that is asked when the first cannot answer.")
    ] = False,
    options: Annotated[
        str | None,
        typer.Option("--options", help="More of the configuration, as JSON or a file of it."),
    ] = None,
    no_key: Annotated[bool, typer.Option("--no-key", help="The server wants none.")] = False,
) -> None:
    """Have a model read and draft from now on. Its key is read from COMMUNICATOR_MODEL_KEY, or
    from standard input, and kept encrypted."""
    with errors_in_words():
        opened = stores()
        values: dict[str, Any] = {
            "kind": "workers_ai" if workers_ai else "openai",
            "model": model,
            "base_url": url,
            "account_id": workers_ai,
            **_options(options),
        }
        config = configured(values, "" if no_key else _key(), opened)
        before = read_configuration(opened)
        if second and before is None:
            fail("there is no first model yet: set it without --second", 2)
        if second and before is not None:
            models = ModelsConfig(first=before.first, second=config)
        else:
            models = ModelsConfig(first=config, second=before.second if before else None)
        keep_configuration(opened, models)
        unblock(opened.database, config.endpoint)
    out.print(
        f"{model} is asked from now on{' when the first cannot answer' if second else ''}. "
        "communicator model test asks it something now. What is here already is read anew only "
        "if you say so: communicator materialize --from DAY --to DAY",
        soft_wrap=True,
    )


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """Which models are asked, with which limits, and what is wrong with them."""
    with errors_in_words():
        opened = stores()
        models = read_configuration(opened)
        if models is None:
            if as_json:
                print_json({"first": None, "second": None})
            else:
                out.print("No model: the offline analyser and drafter do everything.")
            return
        found = {
            name: _described(opened, config)
            for name, config in (("first", models.first), ("second", models.second))
            if config is not None
        }
    if as_json:
        print_json(found)
        return
    for name, told in found.items():
        table = plain_table(name, "")
        for key, value in told.items():
            table.add_row(key.replace("_", " "), *escaped([value]))
        out.print(table)


@app.command("off")
def off(
    second: Annotated[bool, typer.Option("--second", help="Only the second one.")] = False,
) -> None:
    """Ask no model any more: the offline analyser and drafter do everything."""
    with errors_in_words():
        opened = stores()
        models = read_configuration(opened)
        keep = ModelsConfig(first=models.first) if second and models is not None else None
        keep_configuration(opened, keep)
    out.print("The second model is off." if second else "No model is asked any more.")


class _Capital(BaseModel):
    model_config = ConfigDict(extra="forbid")

    capital: str


@app.command("test")
def test() -> None:
    """Ask each model one small question, and say what came of it."""
    with errors_in_words():
        opened = stores()
        models = read_configuration(opened)
        if models is None:
            fail("no model is set: communicator model set --help", 2)
        bad = False
        for config in (models.first, models.second):
            if config is not None:
                bad = not _answers(opened, config) or bad
    if bad:
        raise typer.Exit(1)


def _answers(opened: Stores, config: ModelConfig) -> bool:
    from communicator_pipeline.language_model.asking import EndpointError

    endpoint = connect(config, key_of(opened, config))
    prompt = Prompt("test", "Answer with one JSON object.", '{"capital_of":"France"}')
    began = datetime.now(UTC)
    try:
        reply = endpoint.ask(prompt.messages(), _Capital)
        answer = _Capital.model_validate_json(reply.text).capital
    except EndpointError as error:
        err.print(f"[red]![/red] {config.model}: {escaped([error])[0]}", soft_wrap=True)
        return False
    except ValueError:
        err.print(
            f"[red]![/red] {config.model} answers, but not in the shape that was asked for: try "
            '--options \'{"json_mode": "object"}\' or "prompt"',
            soft_wrap=True,
        )
        return False
    finally:
        endpoint.close()
    unblock(opened.database, config.endpoint)
    seconds = (datetime.now(UTC) - began).total_seconds()
    usage = priced(config, reply.usage)
    out.print(
        f"{config.model}: {escaped([answer])[0]}, in {seconds:.1f} s, "
        f"{usage.input_tokens} + {usage.output_tokens} tokens, ${usage.cost_usd:.6f}",
        soft_wrap=True,
    )
    return True


@app.command("budget")
def budget(
    amount: Annotated[
        str, typer.Argument(help="USD a day (UTC) that anybody may spend; none for no limit.")
    ],
    user: Annotated[str | None, typer.Option("--user", help="For this user only.")] = None,
) -> None:
    """Limit what models may cost. When it is spent, the offline analyser stands in."""
    with errors_in_words():
        opened = stores()
        whose = None if user is None else acting_user(opened, user)
        limit = _amount(amount)
        Settings(opened.database, whose).set(BUDGET_SETTING, limit)
    for_whom = "everybody" if whose is None else whose
    out.print(f"No limit for {for_whom}." if limit is None else f"${limit:g} a day for {for_whom}.")


@app.command("usage")
def usage(
    days: Annotated[int, typer.Option("--days", min=1, max=3_660)] = 30,
    by: Annotated[str, typer.Option("--by", help="day, user, account, purpose or model")] = "day",
    as_json: AsJson = False,
) -> None:
    """What models took, in tokens and USD."""
    with errors_in_words():
        opened = stores()
        if by not in ("day", "user", "account", "purpose", "model"):
            fail(f"--by takes day, user, account, purpose or model, not {by!r}", 2)
        column: Literal["day", "user_id", "account", "purpose", "model"]
        column = "user_id" if by == "user" else by  # type: ignore[assignment]
        first = (datetime.now(UTC) - timedelta(days=days - 1)).strftime("%Y-%m-%d")
        rows = usage_since(opened.database, first, column)
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print(f"No model was asked in the last {days} days.")
        return
    table = plain_table(by, "calls", "tokens in", "tokens out", "USD")
    for row in rows:
        numbers = (row["calls"], row["input_tokens"], row["output_tokens"])
        table.add_row(*escaped([row[column], *numbers, f"{row['cost_usd']:.4f}"]))
    out.print(table)


def _described(opened: Stores, config: ModelConfig) -> dict[str, Any]:
    told = config.model_dump(exclude={"sealed_key", "input_price", "output_price"})
    trouble = trouble_with(opened.database, config.endpoint)
    return {
        **told,
        "key": "kept" if config.sealed_key else f"from {KEY_VARIABLE}, or none",
        "usd_per_million_in": round(price_of(config, output=False) * 1e6, 6),
        "usd_per_million_out": round(price_of(config, output=True) * 1e6, 6),
        "trouble": f"{trouble[1]}; asked again at {trouble[0]:%Y-%m-%d %H:%M} UTC"
        if trouble
        else "none",
    }


def _options(options: str | None) -> dict[str, Any]:
    if options is None:
        return {}
    text = Path(options).read_bytes() if Path(options).is_file() else options.encode()
    try:
        found = orjson.loads(text)
    except ValueError as error:
        fail(f"--options should be JSON: {error}", 2)
    if not isinstance(found, dict) or "sealed_key" in found:
        fail("--options should be a JSON object; a key does not belong there", 2)
    return found


def _key() -> str:
    given = os.environ.get(KEY_VARIABLE)
    if given is not None:
        return given
    if sys.stdin.isatty():
        return str(typer.prompt("Its key", hide_input=True, default="", show_default=False))
    return sys.stdin.readline().strip()


def _amount(text: str) -> float | None:
    if text.casefold() == "none":
        return None
    try:
        limit = float(text.removeprefix("$"))
    except ValueError:
        fail(f"an amount in USD, or none; not {text!r}", 2)
    if not 0 <= limit < 1e9:
        fail(f"an amount in USD from 0; not {text!r}", 2)
    return limit
