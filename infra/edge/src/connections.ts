/**
 * Whose push it claims to be: the account's settings and secrets, out of the database, decrypted.
 *
 * Belongs here: finding them, and keeping them for a few seconds. Does not belong here: what a
 * platform does with them (`verifying.ts`).
 */

import type { Env } from "./bindings";
import { keysOf, open } from "./fernet";

export interface Connection {
  settings: Readonly<Record<string, string>>;
  secrets: Readonly<Record<string, string>>;
}

/** Milliseconds for which a connection is kept decrypted; a new secret counts after them. */
const KEPT = 5_000;
const MOST_KEPT = 10_000;

const FIND =
  "SELECT c.settings, c.secrets FROM accounts AS a JOIN connections AS c USING (account) " +
  "WHERE a.account = ?1 AND a.platform = ?2";

const kept = new Map<string, { until: number; connection: Connection }>();

/** The connection of an account of this platform, or null if there is none. Throws if the database
 * cannot be asked, or the keys do not open what is in it. */
export async function find(
  env: Env,
  platform: string,
  account: string,
): Promise<Connection | null> {
  const name = `${platform}/${account}`;
  const known = kept.get(name);
  if (known !== undefined && known.until > Date.now()) return known.connection;
  const row = await env.DB.prepare(FIND)
    .bind(account, platform)
    .first<{ settings: string; secrets: string }>();
  if (row === null) {
    kept.delete(name);
    return null;
  }
  const secrets = await open(row.secrets, keysOf(env.COMMUNICATOR_KEYS ?? ""));
  const connection = { settings: JSON.parse(row.settings), secrets: JSON.parse(secrets) };
  if (kept.size >= MOST_KEPT) kept.clear();
  kept.set(name, { until: Date.now() + KEPT, connection });
  return connection;
}
