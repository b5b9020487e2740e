/**
 * Whether a push is the platform's, and its key; as each platform's `receive` in
 * `communicator_pipeline/platforms/` says it.
 *
 * Belongs here: signatures, keys and the platforms' questions. Does not belong here: HTTP
 * (`pushes.ts`), whose secrets (`connections.ts`).
 *
 * Matrix and the sandbox do not push. A platform that somebody added of their own is known to the
 * gateway alone.
 */

import { base64, decoded, encoded, hex, hmac, latin1, same, sha256 } from "./bytes";
import type { Connection } from "./connections";
import { isObject, parse } from "./json";
import type { Json } from "./json";

export interface Push {
  method: "GET" | "POST";
  headers: Headers;
  query: URLSearchParams;
  body: Uint8Array<ArrayBuffer>;
}

/** To be queued under a key; or a question to the endpoint itself, and the answer to it. */
export type Verdict = { key: string } | { answer: string; type: string };

/** Whatever it throws means that the push is refused. */
export type Verifier = (push: Push, connection: Connection, now: Date) => Promise<Verdict>;

/** Seconds before and after:
 * https://docs.slack.dev/authentication/verifying-requests-from-slack (read 2026-11). */
const OLDEST_SIGNATURE = 300;
const X_LISTS = ["tweet_create_events", "tweet_delete_events", "direct_message_events"];

class Refused extends Error {}

async function slack(push: Push, { secrets }: Connection, now: Date): Promise<Verdict> {
  const timestamp = header(push, "x-slack-request-timestamp");
  if (!/^[0-9]{1,12}$/.test(timestamp)) throw new Refused("the timestamp is no number");
  if (Math.abs(now.getTime() / 1_000 - Number(timestamp)) > OLDEST_SIGNATURE) {
    throw new Refused("the signature is too old");
  }
  const signed = joined(encoded(`v0:${timestamp}:`), push.body);
  const expected = `v0=${hex(await hmac(encoded(secrets["signing_secret"] ?? ""), signed))}`;
  if (!same(header(push, "x-slack-signature"), expected)) {
    throw new Refused("the signature is wrong");
  }
  const body = objectIn(push.body);
  const what = told(body, "type");
  if (what === "url_verification") {
    const challenge = told(body, "challenge");
    if (typeof challenge !== "string") throw new Refused("the challenge is no text");
    return { answer: challenge, type: "text/plain; charset=utf-8" };
  }
  if (what === "event_callback") {
    const event = told(body, "event_id");
    if (typeof event !== "string" || event === "") throw new Refused("the event has no id");
    return { key: event };
  }
  return { answer: "", type: "text/plain; charset=utf-8" };
}

async function telegram(push: Push, { settings, secrets }: Connection): Promise<Verdict> {
  if (settings["kind"] !== "bot") throw new Refused("Telegram pushes to bots only");
  const known = secrets["webhook_secret"];
  if (!known || !same(header(push, "x-telegram-bot-api-secret-token"), known)) {
    throw new Refused("the secret is not the account's");
  }
  const number = told(objectIn(push.body), "update_id");
  if (typeof number !== "bigint") throw new Refused("the update has no number");
  return { key: `update ${number}` };
}

async function x(push: Push, { secrets }: Connection): Promise<Verdict> {
  const secret = encoded(secrets["consumer_secret"] ?? "");
  const signed = async (data: Uint8Array<ArrayBuffer>): Promise<string> =>
    `sha256=${base64(await hmac(secret, data))}`;
  if (push.method === "GET") {
    // Both are signed with one secret and anybody may ask: a token that could be the body of a push
    // must not be answered, and a body that could be a token is not believed.
    const asked = push.query.getAll("crc_token").at(-1) ?? "";
    if (!/^[A-Za-z0-9_-]{1,200}$/.test(asked)) throw new Refused("the crc_token is not one of X's");
    const answer = JSON.stringify({ response_token: await signed(encoded(asked)) });
    return { answer, type: "application/json" };
  }
  if (push.body[0] !== "{".charCodeAt(0)) throw new Refused("the body is not one of X's");
  if (!same(header(push, "x-twitter-webhooks-signature"), await signed(push.body))) {
    throw new Refused("the signature is not X's");
  }
  return { key: await xKey(push.body) };
}

async function generic(push: Push, { secrets }: Connection): Promise<Verdict> {
  const [scheme, ...rest] = header(push, "authorization").split(" ");
  const known = secrets["push_key"] ?? "";
  const digest = await sha256(encoded(rest.join(" ").trim()));
  if (scheme?.toLowerCase() !== "bearer" || !same(digest, known.replace(/^sha256:/, ""))) {
    throw new Refused("the key is not the account's");
  }
  return { key: await sha256(push.body) };
}

export const VERIFIERS: ReadonlyMap<string, Verifier> = new Map(
  Object.entries({ generic, slack, telegram, x }),
);

/** The same for the same events, however the body is spelled; else the body's own digest. */
async function xKey(body: Uint8Array<ArrayBuffer>): Promise<string> {
  let read: { [name: string]: Json };
  try {
    read = orEmpty(parse(decoded(body)));
  } catch {
    read = {};
  }
  const uuid = orEmpty(read["data"])["event_uuid"];
  if (typeof uuid === "string" && uuid) return sha256(encoded(`event\n${uuid}`));
  const events = X_LISTS.flatMap((kind) => {
    const list = read[kind];
    return Array.isArray(list) ? list.map((event) => [kind, xNative(event)] as const) : [];
  });
  if (events.length === 0 || events.some(([, native]) => !native)) return sha256(body);
  const names = events.map(([kind, native]) => `${kind} ${native}`);
  return sha256(encoded([spelled(read["for_user_id"]), ...names].join("\n")));
}

function xNative(event: Json): string {
  const read = orEmpty(event);
  const native = truthy(read["id_str"]) ?? truthy(read["id"]) ?? orEmpty(read["status"])["id"];
  return typeof native === "string" ? native : "";
}

/** What counts as true in Python, which is not the same as here. */
function truthy(value: Json | undefined): Json | undefined {
  const empty = Array.isArray(value)
    ? value.length === 0
    : isObject(value)
      ? Object.keys(value).length === 0
      : !value;
  return empty ? undefined : value;
}

/** As Python's `str` spells it. X's ids are texts; lists and objects, which they never are, are
 * spelled otherwise there. */
function spelled(value: Json | undefined): string {
  if (value === undefined || value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A header's bytes as Latin-1, as the gateway has them: workerd reads them as UTF-8. */
function header(push: Push, name: string): string {
  const value = push.headers.get(name);
  if (value === null) throw new Refused(`there is no ${name}`);
  return latin1(encoded(value));
}

function objectIn(body: Uint8Array): { [name: string]: Json } {
  const read = parse(decoded(body));
  if (!isObject(read)) throw new Refused("the body is no object");
  return read;
}

function told(body: { [name: string]: Json }, name: string): Json {
  const value = Object.hasOwn(body, name) ? body[name] : undefined;
  if (value === undefined) throw new Refused(`the body has no ${name}`);
  return value;
}

function orEmpty(value: Json | undefined): { [name: string]: Json } {
  return isObject(value) ? value : {};
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(first.byteLength + second.byteLength);
  whole.set(first);
  whole.set(second, first.byteLength);
  return whole;
}
