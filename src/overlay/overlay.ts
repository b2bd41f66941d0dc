import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../observe/log.ts';
import { difference, type Trial } from './difference.ts';
import type { InterfaceDump, PeerDump } from './dump.ts';
import { type InterfaceOptions, openRoutes, WireguardInterface } from './interface.ts';
import type { PlannedPeer } from './peer-plan.ts';

export interface OverlayDeps {
  /** Whom the interface is to know now that it is like this. */
  plan(dump: InterfaceDump): readonly PlannedPeer[];
  /** This node is a gateway now. */
  isGateway(): boolean;
  readonly log: Log;
}

export interface OverlayOptions extends InterfaceOptions {
  /** Sent to peers when nothing else is, seconds, so that a NAT on the way keeps the way back. 0 for none. */
  readonly keepalive: { readonly near: number; readonly far: number };
  /** The interface is compared with the plan this often, milliseconds. @default 5000 */
  readonly lookMs?: number;
}

export interface OverlayStatus {
  readonly interface: string;
  readonly driver: 'kernel' | 'userspace';
  readonly port: number;
  readonly address: string;
  readonly publicKey: string;
  readonly peers: readonly PeerDump[];
}

/** A lost interface is made anew after so long, milliseconds. */
const AGAIN_MS = 2_000;
/**
 * When power returns to a site, each of its nodes has all others to begin a session with, and both ends of a pair would at
 * once: so few are begun with one look, each node in an order of its own, and the next look comes soon.
 */
const AT_ONCE = 16;
const SPREAD_MS = 500;
/** Changes that come together are made together, milliseconds. */
const SETTLE_MS = 50;

/** Keeps this node's WireGuard interface as the plan says: what others change on it is set right again. */
export class Overlay implements AsyncDisposable {
  readonly #deps: OverlayDeps;
  readonly #options: Required<Pick<OverlayOptions, 'lookMs'>> & OverlayOptions;
  readonly #over = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #interface: WireguardInterface;
  #trials: ReadonlyMap<string, Trial> = new Map();
  #wake: () => void = () => undefined;
  #woken = false;
  /** Sessions wait to be begun. */
  #waiting = false;
  readonly #order = randomBytes(16);
  /** The interface is gone, without our doing. */
  #lost = false;
  #forwards = false;

  private constructor(deps: OverlayDeps, options: OverlayOptions, made: WireguardInterface) {
    this.#deps = deps;
    this.#options = { lookMs: 5_000, ...options };
    this.#interface = made;
    this.#watch();
  }

  /** The interface is as planned when it resolves. Rejects with `OverlayUnavailable` and `CommandFailed`. */
  static async open(deps: OverlayDeps, options: OverlayOptions): Promise<Overlay> {
    const made = await WireguardInterface.open(options, deps);
    const overlay = new Overlay(deps, options, made);
    try {
      await overlay.#apply();
    } catch (error) {
      await overlay[Symbol.asyncDispose]();
      throw error;
    }
    overlay.#running = overlay.#run();
    return overlay;
  }

  /** The plan may be another one now. */
  update(): void {
    this.#woken = true;
    this.#wake();
  }

  async status(): Promise<OverlayStatus> {
    const { publicKey, listenPort, peers } = await this.#interface.show();
    const { name, driver } = this.#interface;
    return { interface: name, driver, port: listenPort, address: this.#options.addresses.join(', '), publicKey, peers };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort(new DOMException('the overlay is closed', 'AbortError'));
    this.#wake();
    await this.#running;
    await this.#interface[Symbol.asyncDispose]();
    await openRoutes(this.#options.routes);
  }

  async #run(): Promise<void> {
    const { signal } = this.#over;
    const { log } = this.#deps;
    while (!signal.aborted) {
      await this.#rest();
      if (signal.aborted) return;
      try {
        if (this.#lost) await this.#reopen();
        await this.#apply();
      } catch (error) {
        log.error('overlay interface is not as it should be', { interface: this.#interface.name, error });
        await delay(AGAIN_MS, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }

  /** Until there is something to look at. */
  async #rest(): Promise<void> {
    const woken = Promise.withResolvers<void>();
    this.#wake = woken.resolve;
    if (this.#woken || this.#lost || this.#over.signal.aborted) woken.resolve();
    const timer = setTimeout(woken.resolve, this.#waiting ? SPREAD_MS : this.#options.lookMs).unref();
    await woken.promise;
    clearTimeout(timer);
    if (this.#woken)
      await delay(SETTLE_MS, undefined, { signal: this.#over.signal, ref: false }).catch(() => undefined);
    this.#woken = false;
  }

  #watch(): void {
    const watched = this.#interface;
    void watched.gone.then(() => {
      if (this.#interface !== watched) return;
      this.#lost = true;
      this.#wake();
    });
  }

  async #forward(): Promise<void> {
    // Once: what is not allowed now is not allowed five seconds later.
    this.#forwards = true;
    await this.#interface.forward().catch((error: unknown) => {
      const advice = 'allow the agent to write /proc/sys/net/ipv6, or set net.ipv6.conf.all.forwarding=1 yourself';
      this.#deps.log.error('this gateway does not forward: its site is not reached through it', { error, advice });
    });
  }

  async #reopen(): Promise<void> {
    this.#deps.log.error('overlay interface was lost, and is made anew', { interface: this.#interface.name });
    await this.#interface[Symbol.asyncDispose]();
    this.#trials = new Map();
    this.#forwards = false;
    this.#interface = await WireguardInterface.open(this.#options, this.#deps);
    this.#lost = false;
    this.#watch();
  }

  async #apply(): Promise<void> {
    if (this.#deps.isGateway() && !this.#forwards) await this.#forward();
    const dump = await this.#interface.show();
    const clocks = { now: performance.now(), time: Date.now() / 1000 };
    const { keepalive } = this.#options;
    const options = { keepalive, atOnce: AT_ONCE, ...clocks };
    const plan = inOwnOrder(this.#deps.plan(dump), this.#order);
    const { remove, set, trials, waiting } = difference(dump, plan, this.#trials, options);
    this.#waiting = waiting > 0;
    if (remove.length > 0) await this.#interface.remove(remove);
    if (set.length > 0) await this.#interface.set(set);
    this.#trials = trials;
    if (remove.length + set.length > 0) {
      this.#deps.log.info('overlay peers changed', { set: set.length, removed: remove.length });
    }
  }
}

function inOwnOrder(plan: readonly PlannedPeer[], salt: Uint8Array): PlannedPeer[] {
  const place = new Map(
    plan.map(({ publicKey }) => [
      publicKey,
      createHash('sha256').update(salt).update(publicKey).digest().readUInt32BE(0),
    ]),
  );
  return plan.toSorted((a, b) => (place.get(a.publicKey) ?? 0) - (place.get(b.publicKey) ?? 0));
}
