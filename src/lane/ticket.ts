import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { FastKind } from './lane.ts';

export const TICKET_ID_BYTES = 16;
export const TICKET_SECRET_BYTES = 32;

/** From the ticket's issue to a proven connection, milliseconds. */
export const TICKET_MS = 10_000;
/** Tickets that are out at a time, for all peers and for one. */
const MAX_TICKETS = 512;
const MAX_TICKETS_PER_PEER = 4;

/** The right to open one fast lane: told to one peer over its encrypted control stream, good once. */
export interface Ticket {
  readonly kind: FastKind;
  /** Where its issuer listens; 0: nowhere, it can only dial. */
  readonly port: number;
  /** Travels in the clear. */
  readonly id: Uint8Array;
  /** The key of the TLS handshake, or of the plain lane's proofs. Never on the lane itself. */
  readonly secret: Uint8Array;
  /** The one who dials sends the chunks; else it receives them. */
  readonly diallerSends: boolean;
}

/** A ticket as its issuer keeps it. */
export interface IssuedTicket extends Ticket {
  readonly peerId: string;
  readonly expiresAt: number;
  /** Takes over the proven connection. */
  use(socket: Socket): void;
}

/** The tickets that we gave out and that nobody has used yet. Bounded; each is good once, and for a few seconds. */
export class Tickets {
  readonly #issued = new Map<string, IssuedTicket>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Undefined when too many are out. */
  issue(
    peerId: string,
    about: Pick<Ticket, 'kind' | 'port' | 'diallerSends'>,
    use: (socket: Socket) => void,
  ): Ticket | undefined {
    this.#forgetExpired();
    const own = [...this.#issued.values()].filter((ticket) => ticket.peerId === peerId).length;
    if (own >= MAX_TICKETS_PER_PEER || this.#issued.size >= MAX_TICKETS) return undefined;
    const random = randomBytes(TICKET_ID_BYTES + TICKET_SECRET_BYTES);
    const [id, secret] = [random.subarray(0, TICKET_ID_BYTES), random.subarray(TICKET_ID_BYTES)];
    const ticket = { ...about, id, secret };
    this.#issued.set(keyOf(id), { ...ticket, peerId, expiresAt: this.#now() + TICKET_MS, use });
    return ticket;
  }

  /** The ticket, which is thereby used up; undefined for one that was never given, for this lane, or not lately. */
  take(id: Uint8Array, kind: FastKind): IssuedTicket | undefined {
    const key = keyOf(id);
    const ticket = this.#issued.get(key);
    this.#issued.delete(key);
    if (ticket === undefined || ticket.kind !== kind || ticket.expiresAt <= this.#now()) return undefined;
    return ticket;
  }

  /** The peer is gone: its tickets are good for nothing. */
  revoke(peerId: string): void {
    for (const [key, ticket] of this.#issued) if (ticket.peerId === peerId) this.#issued.delete(key);
  }

  #forgetExpired(): void {
    const now = this.#now();
    for (const [key, { expiresAt }] of this.#issued) if (expiresAt <= now) this.#issued.delete(key);
  }
}

function keyOf(id: Uint8Array): string {
  return Buffer.from(id).toString('hex');
}
