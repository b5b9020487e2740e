/**
 * What the Worker is given.
 *
 * Belongs here: the bindings' names and types. Does not belong here: their values (`wrangler.jsonc`
 * on one machine, the stack's own declaration in production).
 */

export interface Env {
  /** The database, whose `accounts` and `connections` say who may push. */
  DB: D1Database;
  /** The bucket in which a push that is too large for the queue is parked, below `parked/`. */
  LAKE: R2Bucket;
  /** The queue that the pipeline pulls. */
  INGESTION: Queue<QueuedPush>;
  PUSH_LIMIT: RateLimit;
  /** Whose database it is, and which: what a request for it has to name. */
  ACCOUNT_ID: string;
  DATABASE_ID: string;
  /** Secret. Fernet keys, newest first, commas or line ends between them. */
  COMMUNICATOR_KEYS?: string;
  /** Secret. Who holds it may read and write the database; without it nobody may. */
  D1_TOKEN?: string;
  /** Secret. The token before it, while holders change to the new one. */
  D1_TOKEN_PREVIOUS?: string;
}

/** A verified push on its way. One of `body` and `parked` is there. */
export interface QueuedPush {
  account: string;
  platform: string;
  /** The same when the platform pushes the same again. */
  key: string;
  body?: string;
  /** Where in the bucket the body lies. */
  parked?: string;
  /** UTC, as the database spells times. */
  received_at: string;
}
