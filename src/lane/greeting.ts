import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { TICKET_ID_BYTES, type Ticket } from './ticket.ts';

/**
 * How the two ends of a plain lane prove to each other that they hold the ticket, without showing it:
 *
 *     dialler  → listener   magic, ticket id, nonce A
 *     listener → dialler    nonce B, HMAC-SHA256(secret, 'listener' id A B)
 *     dialler  → listener   HMAC-SHA256(secret, 'dialler' id A B)
 *
 * and frames from then on. A TLS lane begins with TLS itself; its first byte is another (0x16).
 */
const MAGIC = Uint8Array.of(0x62, 0x6d, 0x6c, 0x31);
const NONCE_BYTES = 32;
const PROOF_BYTES = 32;

/** First byte of a TLS handshake record (RFC 8446, section 5.1). */
export const TLS_HANDSHAKE = 0x16;
export const GREETING_BYTES = MAGIC.length + TICKET_ID_BYTES + NONCE_BYTES;
export const ANSWER_BYTES = NONCE_BYTES + PROOF_BYTES;
export { PROOF_BYTES };

export interface Greeting {
  readonly id: Uint8Array;
  readonly nonce: Uint8Array;
}

type Key = Pick<Ticket, 'id' | 'secret'>;

/** Returns what is sent, and what the answer has to be checked with. */
export function greet({ id }: Pick<Key, 'id'>): { readonly bytes: Uint8Array; readonly nonce: Uint8Array } {
  const nonce = randomBytes(NONCE_BYTES);
  return { bytes: Buffer.concat([MAGIC, id, nonce]), nonce };
}

/** Undefined for what is no greeting. */
export function readGreeting(bytes: Uint8Array): Greeting | undefined {
  if (bytes.length !== GREETING_BYTES || MAGIC.some((byte, n) => bytes[n] !== byte)) return undefined;
  return {
    id: bytes.slice(MAGIC.length, MAGIC.length + TICKET_ID_BYTES),
    nonce: bytes.slice(MAGIC.length + TICKET_ID_BYTES),
  };
}

/** The listener's side: what it answers, and the proof that it then expects. */
export function answer(key: Key, greeting: Greeting): { readonly bytes: Uint8Array; readonly expected: Uint8Array } {
  const nonce = randomBytes(NONCE_BYTES);
  return {
    bytes: Buffer.concat([nonce, proof('listener', key, greeting.nonce, nonce)]),
    expected: proof('dialler', key, greeting.nonce, nonce),
  };
}

/** The dialler's side: its proof, or undefined when the answer does not come from one who holds the ticket. */
export function prove(key: Key, nonce: Uint8Array, answered: Uint8Array): Uint8Array | undefined {
  if (answered.length !== ANSWER_BYTES) return undefined;
  const theirs = answered.subarray(0, NONCE_BYTES);
  if (!same(answered.subarray(NONCE_BYTES), proof('listener', key, nonce, theirs))) return undefined;
  return proof('dialler', key, nonce, theirs);
}

/** Compared in constant time. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

function proof(who: 'listener' | 'dialler', { id, secret }: Key, a: Uint8Array, b: Uint8Array): Buffer {
  return createHmac('sha256', secret).update(`bootmesh lane ${who}`).update(id).update(a).update(b).digest();
}
