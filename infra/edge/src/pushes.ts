/**
 * `/push/{platform}/{account}`: verify the raw bytes, queue them durably, acknowledge.
 *
 * Belongs here: reading the request, queueing, answering. Does not belong here: verifying
 * (`verifying.ts`). Nothing else happens before the acknowledgement.
 */

import { Hono } from "hono";

import type { Env, QueuedPush } from "./bindings";
import { decoded, encoded, readBody } from "./bytes";
import { find } from "./connections";
import { VERIFIERS } from "./verifying";
import type { Verdict } from "./verifying";

const LARGEST_BODY = 2 ** 20;
/** Bytes of a message of the queue, which takes 128 KB with what it adds itself:
 * https://developers.cloudflare.com/queues/platform/limits/ (read 2026-11). */
const LARGEST_MESSAGE = 100_000;
const ACCOUNT = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** Seconds: the period of the limit, 10 or 60. It counts in each of the places of Cloudflare:
 * https://developers.cloudflare.com/workers/runtime-apis/bindings/rate-limit/ (read 2026-11). */
const LIMIT_PERIOD = "60";

export const pushes = new Hono<{ Bindings: Env }>();

pushes.all("/:platform/:account", async (context) => {
  const { method } = context.req;
  if (method !== "GET" && method !== "POST") return answer(405, "GET or POST");
  try {
    return await take(context.req.raw, method, context.env, context.req.param());
  } catch {
    // A fault of ours: whoever pushes must not give up.
    console.error("a push could not be verified or queued");
    return answer(503, "not now: push it again");
  }
});

async function take(
  request: Request,
  method: "GET" | "POST",
  env: Env,
  { platform, account }: { platform: string; account: string },
): Promise<Response> {
  const verify = VERIFIERS.get(platform);
  if (verify === undefined || !ACCOUNT.test(account)) return refused();
  // By sender too: a stranger's flood must not use up what the platform may push.
  const sender = request.headers.get("cf-connecting-ip") ?? "";
  const { success } = await env.PUSH_LIMIT.limit({ key: `${account} ${sender}` });
  if (!success) {
    return answer(429, "too many pushes: push it again later", { "retry-after": LIMIT_PERIOD });
  }
  const connection = await find(env, platform, account);
  if (connection === null) return refused();
  const body = method === "GET" ? new Uint8Array() : await readBody(request, LARGEST_BODY);
  if (body === null) return answer(413, "the body is larger than 1 MB");
  const { headers, url } = request;
  const now = new Date();
  let verdict: Verdict;
  let text: string;
  try {
    const push = { method, headers, query: new URL(url).searchParams, body };
    verdict = await verify(push, connection, now);
    text = decoded(body);
  } catch {
    return refused();
  }
  if ("answer" in verdict) {
    return new Response(verdict.answer, { headers: { "content-type": verdict.type } });
  }
  if (method === "GET") return refused();
  const received_at = now.toISOString().replace("Z", "000Z");
  await queue(env, { account, platform, key: verdict.key, body: text, received_at });
  return Response.json({});
}

/** Queue a push; durable when it returns. One that is too large waits in the bucket. */
async function queue(env: Env, { body, ...rest }: QueuedPush & { body: string }): Promise<void> {
  let message: QueuedPush = { ...rest, body };
  if (encoded(JSON.stringify(message)).byteLength > LARGEST_MESSAGE) {
    const parked = `parked/${rest.received_at.slice(0, 10)}/${crypto.randomUUID()}`;
    await env.LAKE.put(parked, body);
    message = { ...rest, parked };
  }
  await env.INGESTION.send(message, { contentType: "json" });
}

/** One answer for a wrong signature, an unknown account and a broken body: it tells nothing. */
function refused(): Response {
  return answer(401, "not verified");
}

function answer(status: number, error: string, headers: Record<string, string> = {}): Response {
  return new Response(`{"error": ${JSON.stringify(error)}}`, {
    status,
    headers: { "content-type": "application/json", ...headers },
  });
}
