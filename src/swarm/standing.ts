export interface StandingOptions {
  /** How long a banned peer stays out, milliseconds. @default 1 h */
  readonly banMs: number;
  /** Malformed messages or frames of one peer, within `forgetMs`, that get it banned. @default 8 */
  readonly offences: number;
  /** An offence is forgotten after this long, milliseconds. @default 10 min */
  readonly forgetMs: number;
  /** Peers remembered at most, banned or scored; the oldest entries go first. @default 1024 */
  readonly remembered: number;
}

export const STANDING_DEFAULTS: StandingOptions = {
  banMs: 3_600_000,
  offences: 8,
  forgetMs: 600_000,
  remembered: 1024,
};

/** How far each peer is trusted to keep to the protocol: offences so far, and bans. Bounded, oldest forgotten first. */
export class Standing {
  readonly #options: StandingOptions;
  readonly #bannedUntil = new Map<string, number>();
  readonly #offences = new Map<string, { count: number; since: number }>();

  constructor(options: Partial<StandingOptions> = {}) {
    this.#options = { ...STANDING_DEFAULTS, ...options };
  }

  /** End of the peer's ban (Unix milliseconds), or undefined when it is welcome. */
  bannedUntil(peer: string, now = Date.now()): number | undefined {
    const until = this.#bannedUntil.get(peer);
    if (until === undefined || until > now) return until;
    this.#bannedUntil.delete(peer);
    return undefined;
  }

  /** Returns the end of the ban. */
  ban(peer: string, now = Date.now()): number {
    const until = now + this.#options.banMs;
    remember(this.#bannedUntil, peer, until, this.#options.remembered);
    this.#offences.delete(peer);
    return until;
  }

  /** Those that are not forgotten; a ban forgets them, since nothing more is heard then. */
  offences(peer: string, now = Date.now()): number {
    const known = this.#offences.get(peer);
    return known === undefined || now - known.since > this.#options.forgetMs ? 0 : known.count;
  }

  /** Counts an offence; true when it is one too many. The caller bans. */
  offend(peer: string, now = Date.now()): boolean {
    const known = this.#offences.get(peer);
    const fresh = known === undefined || now - known.since > this.#options.forgetMs;
    const entry = fresh ? { count: 1, since: now } : { count: known.count + 1, since: known.since };
    remember(this.#offences, peer, entry, this.#options.remembered);
    return entry.count >= this.#options.offences;
  }
}

function remember<T>(map: Map<string, T>, key: string, value: T, limit: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= limit) return;
  const oldest = map.keys().next().value;
  if (oldest !== undefined) map.delete(oldest);
}
