import type { Log } from '../observe/log.ts';

/** What happened to a booting machine, as the log, `/status` and the demo tell it. */
export interface BootEvent {
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly event: 'boot:dhcp' | 'boot:tftp' | 'boot:script';
  /** The machine; an IP address when its hardware address is not known. */
  readonly mac: string;
  readonly [fact: string]: unknown;
}

const MAX_EVENTS = 256;
const MAX_MACHINES = 1024;
/** A machine that fetched something within so long is a boot in progress, ms. */
const IN_PROGRESS_MS = 30_000;

/** The last events, bounded, each also a log line. */
export class Timeline {
  readonly #log: Log;
  readonly #events: BootEvent[] = [];
  readonly #heard = new Map<string, number>();

  constructor(log: Log) {
    this.#log = log;
  }

  add(event: BootEvent['event'], mac: string, facts: Readonly<Record<string, unknown>>): void {
    this.#events.push({ at: new Date().toISOString(), event, mac, ...facts });
    if (this.#events.length > MAX_EVENTS) this.#events.shift();
    // A DHCP message can be forged by the thousand; who fetched something is really there.
    if (event !== 'boot:dhcp' && facts['result'] !== 'refused') this.#remember(mac);
    this.#log.info('boot progress', { event, mac, ...facts });
  }

  #remember(mac: string): void {
    this.#heard.delete(mac);
    this.#heard.set(mac, performance.now());
    if (this.#heard.size > MAX_MACHINES) this.#heard.delete(this.#heard.keys().next().value ?? '');
  }

  /** Oldest first. */
  get events(): readonly BootEvent[] {
    return this.#events;
  }

  /** Machines that are booting from here now. */
  get load(): number {
    const since = performance.now() - IN_PROGRESS_MS;
    return [...this.#heard.values()].filter((at) => at >= since).length;
  }
}
