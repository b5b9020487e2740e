/**
 * The edge Worker: takes what platforms push while nothing of Communicator need be running, and
 * answers for the database as Cloudflare's REST API does, without its limit of 1,200 calls in five
 * minutes.
 *
 * Belongs here: the routes, and what is answered when something throws. Does not belong here:
 * verifying (`verifying.ts`), queueing (`pushes.ts`), statements (`database.ts`).
 *
 * A push is answered exactly as the gateway answers it (`communicator_pipeline/gateway/pushes.py`),
 * and has the same key: one file of test vectors is put to both. Nothing of a body, a header or a
 * secret is ever logged.
 */

import { Hono } from "hono";

import type { Env } from "./bindings";
import { database } from "./database";
import { pushes } from "./pushes";

const app = new Hono<{ Bindings: Env }>();

app.get("/healthz", (context) => context.json({ ok: true }));
app.route("/push", pushes);
app.route("/client/v4/accounts", database);

export default app;
