import { AdmissionRefused } from './refusal.ts';

/** A machine without a token that waits to be approved. */
export interface PendingRequest {
  readonly peerId: string;
  /** What it calls itself. */
  readonly name: string;
  readonly machine: readonly string[];
  /** Milliseconds since 1970. */
  readonly firstAt: number;
  readonly lastAt: number;
}

export interface Approval {
  readonly site: string;
  readonly roles: readonly string[];
  /** What it will be called; itself says when absent. */
  readonly name?: string | undefined;
}

/** Requests are kept so long after they were last made, milliseconds: a machine that waits asks every few seconds. */
const KEPT_MS = 600_000;
/** More do not wait: the newest comes in the place of the oldest, since anybody may ask. */
const MOST = 64;
/** An approval that is not used is over then, milliseconds. */
const APPROVED_MS = 3_600_000;

/** Machines that ask to be let in, and which of them an operator has approved. Forgotten when the agent ends: they ask again. */
export class Requests {
  readonly #pending = new Map<string, PendingRequest>();
  readonly #approved = new Map<string, Approval & { readonly at: number }>();

  /** Those that wait, the newest last. */
  list(now: number): PendingRequest[] {
    return [...this.#pending.values()].filter(({ lastAt }) => now - lastAt < KEPT_MS);
  }

  /** The approval of this machine. Throws `AdmissionRefused` (pending), and remembers that it asked. */
  approvalOf(request: Pick<PendingRequest, 'peerId' | 'name' | 'machine'>, now: number): Approval {
    const { peerId } = request;
    const approval = this.#approved.get(peerId);
    if (approval !== undefined && now - approval.at < APPROVED_MS) return approval;
    const firstAt = this.#pending.get(peerId)?.firstAt ?? now;
    this.#pending.delete(peerId);
    this.#pending.set(peerId, { peerId, name: request.name, machine: request.machine, firstAt, lastAt: now });
    for (const old of this.#pending.keys()) {
      if (this.#pending.size <= MOST) break;
      this.#pending.delete(old);
    }
    const command = `bootmesh fleet approve ${peerId}`;
    throw new AdmissionRefused('pending', `this machine waits for an operator, who lets it in with \`${command}\``);
  }

  /** By peer id, or by name when only one is called that; undefined when nobody waits who is. */
  find(peer: string, now: number): PendingRequest | undefined {
    const all = this.list(now);
    const named = all.filter(({ name }) => name === peer);
    return all.find(({ peerId }) => peerId === peer) ?? (named.length === 1 ? named[0] : undefined);
  }

  approve({ peerId }: PendingRequest, approval: Approval, now: number): void {
    for (const [old, { at }] of this.#approved) if (now - at >= APPROVED_MS) this.#approved.delete(old);
    this.#approved.set(peerId, { ...approval, at: now });
  }

  /** It was let in. */
  admitted(peerId: string): void {
    this.#pending.delete(peerId);
    this.#approved.delete(peerId);
  }
}
