import { createPublicKey, type KeyObject, randomBytes, sign, verify } from 'node:crypto';
import type { MemberNetwork } from '../fleet/member-sync.ts';
import { rawPublicKey } from '../fleet/statement.ts';
import type { TrustList } from '../fleet/trust-list.ts';
import type { Log } from '../observe/log.ts';

interface Deps {
  readonly network: Pick<MemberNetwork, 'peers' | 'ask' | 'serve'>;
  readonly peerId: string;
  /** Of this node, when it may admit. */
  readonly issuerKey: KeyObject | undefined;
  trust(): TrustList;
  readonly log: Log;
  /** Milliseconds that never go back. @default performance.now */
  readonly elapsed?: () => number;
}

export interface IssuerReachOptions {
  /** An issuer has to be there so long before nobody needs grace: its members have been renewed then. Milliseconds. @default 600000 */
  readonly settleMs: number;
  /** A peer is asked again after so long, milliseconds. @default 120000 */
  readonly againMs: number;
}

const PREFIX = 'issuer/';
const NONCE_BYTES = 16;
const NAME = new RegExp(`^${PREFIX}([0-9a-f]{${2 * NONCE_BYTES}})$`);
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const ASK_MS = 5_000;
/** At once. */
const MAX_ASKED = 32;

/**
 * Whether somebody is connected who may renew certificates of this node's site. A peer shows that by signing, with the
 * issuer's key, what it is asked for once: that it is there now, and not that it was.
 */
export class IssuerReach {
  readonly #deps: Deps;
  readonly #options: IssuerReachOptions;
  readonly #elapsed: () => number;
  readonly #asked = new Map<string, number>();
  /** Who showed it last, and since when somebody did without a break. */
  #holder: { readonly peer: string; readonly at: number; readonly since: number } | undefined;

  constructor(deps: Deps, { settleMs = 600_000, againMs = 120_000 }: Partial<IssuerReachOptions> = {}) {
    this.#deps = deps;
    this.#options = { settleMs, againMs };
    this.#elapsed = deps.elapsed ?? (() => performance.now());
    deps.network.serve(PREFIX, async (name, from) => this.#answer(name, from));
  }

  /** Asks whom it is time to ask. True when an issuer for this site has been in reach for long enough. */
  async look(site: string, signal: AbortSignal): Promise<boolean> {
    const { settleMs, againMs } = this.#options;
    const connected = this.#deps.network.peers();
    const fresh = () => this.#holder !== undefined && this.#elapsed() - this.#holder.at < againMs;
    const first = this.#holder?.peer ?? '';
    if (!fresh() && connected.includes(first)) await this.#ask(first, site, signal);
    if (!fresh()) {
      for (const peer of this.#asked.keys()) if (!connected.includes(peer)) this.#asked.delete(peer);
      const due = connected.filter((peer) => this.#elapsed() - (this.#asked.get(peer) ?? -againMs) >= againMs);
      await Promise.all(due.slice(0, MAX_ASKED).map((peer) => this.#ask(peer, site, signal)));
    }
    if (this.#holder !== undefined && this.#elapsed() - this.#holder.at >= settleMs) this.#holder = undefined;
    return this.#holder !== undefined && this.#elapsed() - this.#holder.since >= settleMs;
  }

  async #ask(peer: string, site: string, over: AbortSignal): Promise<void> {
    const { network, log } = this.#deps;
    this.#asked.set(peer, this.#elapsed());
    const nonce = randomBytes(NONCE_BYTES).toString('hex');
    const signal = AbortSignal.any([over, AbortSignal.timeout(ASK_MS)]);
    try {
      const proof = await network.ask(peer, PREFIX + nonce, { signal, maxBytes: KEY_BYTES + SIGNATURE_BYTES });
      if (proof === undefined || !this.#proves(proof, nonce, peer, site)) return;
      this.#holder = { peer, at: this.#elapsed(), since: this.#holder?.since ?? this.#elapsed() };
    } catch (error) {
      over.throwIfAborted();
      log.debug('a peer did not say whether it may admit', { peer, error });
    }
  }

  #answer(name: string, from: string): Uint8Array | undefined {
    const { issuerKey, peerId } = this.#deps;
    const nonce = NAME.exec(name)?.[1];
    if (issuerKey === undefined || nonce === undefined) return undefined;
    return Buffer.concat([rawPublicKey(issuerKey), sign(null, this.#words(nonce, peerId, from), issuerKey)]);
  }

  #proves(proof: Uint8Array, nonce: string, peer: string, site: string): boolean {
    if (proof.length !== KEY_BYTES + SIGNATURE_BYTES) return false;
    const raw = Buffer.from(proof.subarray(0, KEY_BYTES));
    const issuer = this.#deps.trust().issuers.find(({ key }) => key === raw.toString('hex'));
    if (issuer === undefined || (issuer.site ?? site) !== site) return false;
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') };
    const key = createPublicKey({ key: jwk, format: 'jwk' });
    return verify(null, this.#words(nonce, peer, this.#deps.peerId), key, proof.subarray(KEY_BYTES));
  }

  /** Of no other use to whoever has it signed: for one question, between these two. */
  #words(nonce: string, holder: string, asker: string): Buffer {
    return Buffer.from(`bootmesh-issuer-here-v1\0${this.#deps.trust().fleetId} ${nonce} ${holder} ${asker}`);
  }
}
