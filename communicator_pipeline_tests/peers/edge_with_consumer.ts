/**
 * The edge Worker as it is, and beside it what only tests need: a consumer that keeps what was
 * queued where it can be looked at (queues on one machine cannot be pulled), and a database that
 * fails.
 *
 * `GET /consumed` answers what was consumed; `GET /parked/…` an object of the bucket. A
 * request with `x-d1-fails` meets a database that throws what the header says: workerd's own does
 * not get lost.
 */

import type { Env } from "../../infra/edge/src/bindings";
import edge from "../../infra/edge/src/index";

interface TestEnv extends Env {
  KV: KVNamespace;
}

async function consumed(env: TestEnv): Promise<Response> {
  const messages: unknown[] = [];
  let cursor: string | null = null;
  for (;;) {
    const options: KVNamespaceListOptions = { prefix: "consumed/", cursor };
    const listed = await env.KV.list(options);
    for (const { name } of listed.keys) {
      messages.push(...((await env.KV.get<unknown[]>(name, "json")) ?? []));
    }
    if (listed.list_complete) return Response.json(messages);
    cursor = listed.cursor;
  }
}

function failing(database: D1Database, words: string): D1Database {
  const batch = () => Promise.reject(new Error(words));
  return { prepare: (sql: string) => database.prepare(sql), batch } as unknown as D1Database;
}

export default {
  async fetch(request: Request, env: TestEnv, context: ExecutionContext): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/consumed") return consumed(env);
    if (pathname.startsWith("/parked/")) {
      const object = await env.LAKE.get(pathname.slice(1));
      return new Response(object?.body ?? null, { status: object ? 200 : 404 });
    }
    const words = request.headers.get("x-d1-fails");
    const given = words === null ? env : { ...env, DB: failing(env.DB, words) };
    return edge.fetch(request, given, context);
  },
  async queue(batch: MessageBatch, env: TestEnv): Promise<void> {
    const bodies = batch.messages.map((message) => message.body);
    await env.KV.put(`consumed/${crypto.randomUUID()}`, JSON.stringify(bodies));
  },
};
