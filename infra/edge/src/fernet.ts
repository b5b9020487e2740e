/**
 * Opening what the pipeline has sealed (`communicator_pipeline/storage/credentials.py`).
 *
 * Belongs here: Fernet, as https://github.com/fernet/spec/blob/master/Spec.md (read 2026-11) has
 * it. Does not belong here: whose credentials they are (`connections.ts`). Nothing is sealed here.
 */

import { decoded, fromBase64Url } from "./bytes";

const VERSION = 0x80;
const [IV_AT, CIPHERTEXT_AT, MAC_BYTES] = [9, 25, 32];

/** The keys of a list, newest first, commas or white space between them. */
export function keysOf(list: string): string[] {
  return list.split(/[\s,]+/).filter((key) => key !== "");
}

/** What was sealed under one of the keys; throws if none of them opens it. */
export async function open(sealed: string, keys: readonly string[]): Promise<string> {
  const token = fromBase64Url(sealed);
  if (token[0] !== VERSION) throw new Error("it is not sealed");
  const [signed, mac] = [token.slice(0, -MAC_BYTES), token.slice(-MAC_BYTES)];
  for (const key of keys.map(fromBase64Url)) {
    if (key.byteLength !== 32) throw new Error("COMMUNICATOR_KEYS is not a list of Fernet keys");
    const hmac = { name: "HMAC", hash: "SHA-256" };
    const signing = await crypto.subtle.importKey("raw", key.slice(0, 16), hmac, false, ["verify"]);
    if (!(await crypto.subtle.verify("HMAC", signing, mac, signed))) continue;
    const aes = await crypto.subtle.importKey("raw", key.slice(16), "AES-CBC", false, ["decrypt"]);
    const algorithm = { name: "AES-CBC", iv: token.slice(IV_AT, CIPHERTEXT_AT) };
    return decoded(
      new Uint8Array(await crypto.subtle.decrypt(algorithm, aes, signed.slice(CIPHERTEXT_AT))),
    );
  }
  throw new Error("none of COMMUNICATOR_KEYS opens the account's credentials");
}
