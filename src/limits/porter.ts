import { BlockList } from 'node:net';

export interface PorterOptions {
  /** Strangers' connections at once that have not proven who is there. @default 32 */
  readonly strangers: number;
  /** Strangers that are heard per second, over time; each costs some milliseconds of cryptography. @default 16 */
  readonly perSecond: number;
  /** …and at once after a quiet time: a site's machines come back in the same second after a power cut. @default 64 */
  readonly burst: number;
  /**
   * Of them, those of one address from which no member has come: so many at once, and then so many per second. Whoever
   * knocks on and on leaves the rest to those who come for the first time. @default 4, 0.2
   */
  readonly ofUnknown: { readonly burst: number; readonly perSecond: number };
  /** Who has taken so long to prove anything makes room when there is none, milliseconds. @default 1500 */
  readonly slowMs: number;
  /** Addresses of members that are remembered; the longest unused go first. @default 4096 */
  readonly familiar: number;
}

export const PORTER_DEFAULTS: PorterOptions = {
  strangers: 32,
  perSecond: 16,
  burst: 64,
  ofUnknown: { burst: 4, perSecond: 0.2 },
  slowMs: 1_500,
  familiar: 4_096,
};

/** Of what all strangers may take, one address may take so much. */
const OF_ONE = 0.75;
/** Addresses whose share is counted, the longest quiet forgotten first. */
const MAX_COUNTED = 4_096;

/** A connection that has proven nothing yet. */
interface Caller {
  abort(error: Error): void;
  addEventListener(type: 'close', listener: () => void, options: { readonly once: true }): void;
}

/**
 * Decides at a listening port, before a byte is read and anything is kept, who may begin a handshake. Addresses of
 * members always may, so that their slots are theirs however many knock; all others share a rate, and a number of
 * connections. A member that comes from somewhere new competes with strangers, and is known there from then on.
 *
 * Times are milliseconds of a clock that does not go back.
 */
export class Porter {
  /** For `createServer`: Node asks it about each connection that the kernel has accepted, and closes it on a yes. */
  readonly blockList: BlockList;
  readonly #options: PorterOptions;
  readonly #now: () => number;
  readonly #familiar = new Set<string>();
  /** Where members have come from: an IPv4 address, or a /64. */
  readonly #homes = new Set<string>();
  /** In the order in which they came. */
  readonly #strangers = new Map<Caller, { readonly since: number; readonly source: string }>();
  /** Half of the rate is for those who come for the first time: or to where members are: who knocks on and on has none of it. */
  readonly #first: Bucket;
  readonly #again: Bucket;
  readonly #sources = new Map<string, Bucket>();

  constructor(options: Partial<PorterOptions> = {}, now: () => number = () => performance.now()) {
    this.#options = { ...PORTER_DEFAULTS, ...options };
    this.#now = now;
    const half = () => new Bucket(Math.ceil(this.#options.burst / 2), this.#options.perSecond / 2, now());
    [this.#first, this.#again] = [half(), half()];
    this.blockList = new Asking((address) => !this.admits(address));
  }

  /** Strangers' connections that have proven nothing yet. */
  get waiting(): number {
    return this.#strangers.size;
  }

  /** Members are to be expected at this IP address. */
  welcome(address: string): void {
    const own = plain(address);
    this.#familiar.delete(own);
    this.#familiar.add(own);
    const [longest] = this.#familiar;
    if (this.#familiar.size > this.#options.familiar && longest !== undefined) this.#familiar.delete(longest);
    const home = sourceOf(address);
    if (this.#homes.has(home)) return;
    if (this.#homes.size >= this.#options.familiar) this.#homes.clear();
    this.#homes.add(home);
    // Others may be behind the same NAT, or on the same segment.
    this.#sources.delete(home);
  }

  /** Whether a connection from this IP address may begin a handshake now. One that may has used up some of the rate. */
  admits(address: string): boolean {
    if (this.#familiar.has(plain(address))) return true;
    const now = this.#now();
    const source = sourceOf(address);
    const isNew = this.#homes.has(source) || !this.#sources.has(source);
    const rates = isNew ? [this.#first, this.#again] : [this.#again];
    const bucket = this.#bucket(source, now);
    const rate = rates.find((one) => one.has(now));
    if (rate === undefined || !bucket.has(now) || !this.#hasRoom(source, now)) return false;
    rate.take();
    bucket.take();
    return true;
  }

  /** A connection from this IP address was let in, and is counted until it closes or is known. */
  met(address: string, caller: Caller): void {
    if (this.#familiar.has(plain(address))) return;
    this.#strangers.set(caller, { since: this.#now(), source: sourceOf(address) });
    caller.addEventListener('close', () => this.#strangers.delete(caller), { once: true });
  }

  /** A member is there. */
  knows(address: string, caller: Caller): void {
    this.#strangers.delete(caller);
    this.welcome(address);
  }

  #hasRoom(source: string, now: number): boolean {
    const { strangers, slowMs } = this.#options;
    const own = [...this.#strangers.values()].filter((other) => other.source === source).length;
    if (own >= strangers * OF_ONE) return false;
    if (this.#strangers.size < strangers) return true;
    const [oldest] = this.#strangers;
    if (oldest === undefined || now - oldest[1].since < slowMs) return false;
    const [caller] = oldest;
    this.#strangers.delete(caller);
    caller.abort(new Error('others are waiting to say who they are'));
    return true;
  }

  #bucket(source: string, now: number): Bucket {
    const { burst, perSecond, ofUnknown } = this.#options;
    const [most, rate] = [Math.max(1, burst * OF_ONE), perSecond * OF_ONE];
    const fresh = () => {
      if (this.#homes.has(source)) return new Bucket(most, rate, now);
      return new Bucket(Math.min(most, ofUnknown.burst), Math.min(rate, ofUnknown.perSecond), now);
    };
    const bucket = this.#sources.get(source) ?? fresh();
    this.#sources.delete(source);
    this.#sources.set(source, bucket);
    const [longest] = this.#sources.keys();
    if (this.#sources.size > MAX_COUNTED && longest !== undefined) this.#sources.delete(longest);
    return bucket;
  }
}

/** Node asks `check` alone, and wants a list of this class. */
class Asking extends BlockList {
  readonly #refuses: (address: string) => boolean;

  constructor(refuses: (address: string) => boolean) {
    super();
    this.#refuses = refuses;
  }

  override check(address: unknown): boolean {
    return typeof address === 'string' && this.#refuses(address);
  }
}

/** A token bucket. */
class Bucket {
  readonly #most: number;
  readonly #perSecond: number;
  #tokens: number;
  #at: number;

  constructor(most: number, perSecond: number, now: number) {
    this.#most = most;
    this.#perSecond = perSecond;
    this.#tokens = most;
    this.#at = now;
  }

  has(now: number): boolean {
    this.#tokens = Math.min(this.#most, this.#tokens + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
    return this.#tokens >= 1;
  }

  take(): void {
    this.#tokens -= 1;
  }
}

/** As IPv4 where it is that, whichever socket it came by, and without a zone. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
}

/** An IPv4 address; of IPv6 the /64, all addresses of which any machine in it may take (RFC 8981). */
function sourceOf(address: string): string {
  const own = plain(address);
  if (!own.includes(':')) return own;
  const [head = '', tail] = own.split('::');
  const [left, right] = [head, tail ?? ''].map((part) => (part === '' ? [] : part.split(':')));
  const zeros = tail === undefined ? 0 : 8 - (left?.length ?? 0) - (right?.length ?? 0);
  const groups = [...(left ?? []), ...Array.from({ length: zeros }, () => '0'), ...(right ?? [])];
  return groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':');
}
