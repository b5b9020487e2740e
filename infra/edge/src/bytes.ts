/**
 * Bytes: reading no more of them than agreed, digests, comparing without telling by the time it
 * takes.
 *
 * Belongs here: what both the pushes and the database need of them. Does not belong here: what is
 * signed and how (`verifying.ts`).
 */

const encoder = new TextEncoder();
// A byte order mark stays: JSON that begins with one is broken, there as here.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function encoded(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(text) as Uint8Array<ArrayBuffer>;
}

/** The bytes as text; throws for what is not UTF-8. */
export function decoded(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** The body, or null if it has more than `most` bytes: whatever a header says, no more is read. */
export async function readBody(
  request: Request,
  most: number,
): Promise<Uint8Array<ArrayBuffer> | null> {
  if (request.body === null) return new Uint8Array();
  const reader = request.body.getReader();
  const parts: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.byteLength;
    if (size > most) {
      await reader.cancel();
      return null;
    }
    parts.push(value);
  }
  const body = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.byteLength;
  }
  return body;
}

/** Whether two texts are the same; how long it takes says nothing of where they differ. */
export function same(given: string, known: string): boolean {
  const [a, b] = [encoded(given), encoded(known)];
  return a.byteLength === b.byteLength && crypto.subtle.timingSafeEqual(a, b);
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return hex(await crypto.subtle.digest("SHA-256", bytes));
}

/** HMAC-SHA-256; throws for an empty secret, with which anybody could sign. */
export async function hmac(
  secret: Uint8Array<ArrayBuffer>,
  data: Uint8Array<ArrayBuffer>,
): Promise<ArrayBuffer> {
  if (secret.byteLength === 0) throw new Error("there is no secret");
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", secret, algorithm, false, ["sign"]);
  return crypto.subtle.sign("HMAC", key, data);
}

export function hex(bytes: ArrayBuffer): string {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A character for each byte. */
export function latin1(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

export function base64(bytes: ArrayBuffer): string {
  return btoa(latin1(new Uint8Array(bytes)));
}

/** The bytes of URL-safe base64; throws for what is none. */
export function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (character) => character.charCodeAt(0));
}
