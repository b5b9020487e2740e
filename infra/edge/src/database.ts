/**
 * `POST /client/v4/accounts/{account}/d1/database/{database}/{query|raw}`: D1 as Cloudflare's REST
 * API serves it, from the binding.
 *
 * Belongs here: whose requests are taken, the shapes of requests, answers and errors. Does not
 * belong here: what the statements mean.
 *
 * The shapes are those of
 * https://developers.cloudflare.com/api/resources/d1/subresources/database/methods/raw/ (read
 * 2026-11). Several statements are one transaction. Otherwise than there, of a `sql` that holds
 * several only the last answers, and `raw` knows columns by name only: two of one name are one, the
 * last, and no rows have no columns.
 */

import { Hono } from "hono";
import type { Context } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";

import type { Env } from "./bindings";
import { decoded, readBody, same } from "./bytes";

const MOST_BYTES = 24 * 2 ** 20;

/**
 * Errors in which D1 took the request and refused the statement, in the words of
 * https://developers.cloudflare.com/d1/observability/debug-d1/ (read 2026-11) and of workerd.
 * Whatever else is said may have happened after the statement took effect, and is no refusal.
 */
const REFUSED = new RegExp(
  [
    "SQLITE_(?:AUTH|CONSTRAINT|ERROR|MISMATCH|RANGE|TOOBIG)",
    "D1_TYPE_ERROR",
    "No SQL statements detected",
    "Wrong number of parameter bindings",
    "state\\.storage\\.transaction", // BEGIN and SAVEPOINT
  ].join("|"),
);
const OVERLOADED = /overloaded|Too many requests queued/i;

interface Statement {
  sql: string;
  params: unknown[];
}

export const database = new Hono<{ Bindings: Env }>();

database.post("/:account/d1/database/:database/:shape{query|raw}", async (context) => {
  if (!mayAsk(context)) return failure(context, 403, 10000, "Authentication error");
  const { account, database: asked, shape } = context.req.param();
  if (account !== context.env.ACCOUNT_ID || asked !== context.env.DATABASE_ID) {
    return failure(context, 404, 7404, "The database is not the one that this Worker serves");
  }
  const body = await readBody(context.req.raw, MOST_BYTES);
  if (body === null) return failure(context, 413, 7400, "The body is larger than 24 MB");
  const statements = readStatements(body);
  if (typeof statements === "string") return failure(context, 400, 7400, statements);
  try {
    const { DB } = context.env;
    const prepared = statements.map(({ sql, params }) => DB.prepare(sql).bind(...params));
    const results = await DB.batch<Record<string, unknown>>(prepared);
    const result = results.map(({ results: rows, meta }) => ({
      results: shape === "raw" ? raw(rows) : rows,
      success: true,
      meta,
    }));
    return context.json({ result, errors: [], messages: [], success: true });
  } catch (error) {
    return databaseFailure(context, error);
  }
});

function mayAsk(context: Context<{ Bindings: Env }>): boolean {
  const { D1_TOKEN, D1_TOKEN_PREVIOUS } = context.env;
  const given = /^Bearer (.+)$/i.exec(context.req.header("authorization") ?? "")?.[1] ?? "";
  return [D1_TOKEN, D1_TOKEN_PREVIOUS].some((known) => Boolean(known) && same(given, known ?? ""));
}

/** The statements of a body, or what is wrong with it. */
function readStatements(body: Uint8Array): Statement[] | string {
  let told: unknown;
  try {
    told = JSON.parse(decoded(body));
  } catch {
    return "The body is not JSON";
  }
  if (!isObject(told)) return "The body should be an object with sql, or with batch";
  const given = told["batch"] === undefined ? [told] : told["batch"];
  if (!Array.isArray(given) || given.length === 0) return "batch should be a list of statements";
  const statements: Statement[] = [];
  for (const [place, one] of given.entries()) {
    const { sql, params = [] } = isObject(one) ? one : {};
    if (typeof sql !== "string") return `statement ${place + 1} has no sql`;
    if (!Array.isArray(params)) return `params of statement ${place + 1} should be a list`;
    statements.push({ sql, params });
  }
  return statements;
}

function raw(rows: Record<string, unknown>[]): { columns: string[]; rows: unknown[][] } {
  const columns = Object.keys(rows[0] ?? {});
  return { columns, rows: rows.map((row) => columns.map((name) => row[name])) };
}

function databaseFailure(context: Context, error: unknown): Response {
  const words = error instanceof Error ? error.message : String(error);
  const message = words.replace(/^(?:D1_ERROR|D1_EXEC_ERROR): /, "");
  if (REFUSED.test(words)) return failure(context, 400, 7500, message);
  console.error("D1 could not be asked");
  return failure(context, OVERLOADED.test(words) ? 503 : 500, 7500, message);
}

function failure(
  context: Context,
  status: ContentfulStatusCode,
  code: number,
  message: string,
): Response {
  const errors = [{ code, message }];
  return context.json({ result: null, errors, messages: [], success: false }, status);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
