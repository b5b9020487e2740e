/**
 * JSON as the pipeline reads it: `orjson` and `JSON.parse` do not agree on everything, and what one
 * of them takes must be taken, under the same key, by the other.
 *
 * Belongs here: reading a text. Does not belong here: what it should hold (`verifying.ts`).
 *
 * orjson (3.11, seen 2026-11) refuses half a surrogate pair, numbers beyond a double and more than
 * 1,024 levels; integers of 64 bits are exact, with or without a sign, larger ones are floats.
 */

const DEEPEST = 1_024;
const TOKENS = /"(?:[^"\\]+|\\.)*"|[[\]{}]|-?\d[\d.eE+-]*/gs;
const INTEGER = /^-?\d+$/;

export type Json = null | boolean | number | bigint | string | Json[] | { [name: string]: Json };

/** The value, integers as bigint; throws for what orjson would not read. */
export function parse(text: string): Json {
  const value: Json = JSON.parse(text, exact);
  let depth = 0;
  for (const [token] of text.matchAll(TOKENS)) {
    if (token === "[" || token === "{") {
      depth += 1;
      if (depth > DEEPEST) throw new SyntaxError("it is nested too deeply");
    } else if (token === "]" || token === "}") {
      depth -= 1;
    } else if (!token.startsWith('"')) {
      if (!Number.isFinite(Number(token))) throw new SyntaxError("a number is too large");
    } else if (token.includes("\\u") && !(JSON.parse(token) as string).isWellFormed()) {
      throw new SyntaxError("it holds half a character");
    }
  }
  return value;
}

export function isObject(value: unknown): value is { [name: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function exact(this: unknown, _name: string, value: Json, context?: { source?: string }): Json {
  if (typeof value !== "number" || !INTEGER.test(context?.source ?? "")) return value;
  const whole = BigInt(context?.source ?? "");
  return whole < -(2n ** 63n) || whole >= 2n ** 64n ? value : whole;
}
