import { writeFile } from 'node:fs/promises';
import { machineTicks, processorTicks, residentMegabytes, TICKS_PER_SECOND } from './processor.ts';

/** What a race cost, from its start to its end. */
export interface Cost {
  /** Of all processes that took part and their ended children, user and system. */
  readonly cpuSeconds: number;
  /** Share of the whole machine's processor time that nobody used, per cent. */
  readonly idlePercent: number;
  /** The most that one process had, and the most that one had at the start, megabytes. */
  readonly peakRssMb: number;
  readonly idleRssMb: number;
  /** The most that one process was above what itself had at the start, megabytes. */
  readonly grownRssMb: number;
}

/** A process that ends between two looks takes what it used since the last one with it. */
const LOOK_MS = 200;

interface Seen {
  readonly before: number;
  last: number;
  /** What it had at the start; 0 for those that came later. */
  readonly idleRssMb: number;
  peakRssMb: number;
}

/** Measures what processes use until `stop`; disposing gives the measurement up. */
export class Usage implements Disposable {
  readonly #pids: () => readonly number[];
  readonly #seen = new Map<number, Seen>();
  readonly #machineBefore: { readonly idle: number; readonly all: number };
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();

  private constructor(pids: () => readonly number[], machine: { idle: number; all: number }) {
    this.#pids = pids;
    this.#machineBefore = machine;
  }

  static async start(pids: () => readonly number[]): Promise<Usage> {
    const usage = new Usage(pids, await machineTicks());
    for (const pid of pids()) {
      // proc(5): forgets the peak of the resident set.
      await writeFile(`/proc/${pid}/clear_refs`, '5').catch(() => undefined);
      const { now } = await residentMegabytes(pid);
      usage.#seen.set(pid, { before: await processorTicks(pid), last: 0, idleRssMb: now, peakRssMb: 0 });
    }
    await usage.#look();
    usage.#timer = setInterval(() => {
      usage.#looking = usage.#looking.then(() => usage.#look());
    }, LOOK_MS);
    return usage;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  async stop(): Promise<Cost> {
    this[Symbol.dispose]();
    await this.#looking;
    await this.#look();
    const machine = await machineTicks();
    const seen = [...this.#seen.values()];
    const ticks = seen.reduce((total, { before, last }) => total + Math.max(0, last - before), 0);
    const all = machine.all - this.#machineBefore.all;
    return {
      cpuSeconds: ticks / TICKS_PER_SECOND,
      idlePercent: (100 * (machine.idle - this.#machineBefore.idle)) / Math.max(1, all),
      peakRssMb: Math.max(0, ...seen.map(({ peakRssMb }) => peakRssMb)),
      idleRssMb: Math.max(0, ...seen.map(({ idleRssMb }) => idleRssMb)),
      grownRssMb: Math.max(0, ...seen.map(({ idleRssMb, peakRssMb }) => peakRssMb - idleRssMb)),
    };
  }

  async #look(): Promise<void> {
    for (const pid of this.#pids()) {
      const [ticks, { peak }] = await Promise.all([processorTicks(pid), residentMegabytes(pid)]);
      // What a process of the race started later has used, it has used in the race.
      const seen = this.#seen.get(pid) ?? { before: 0, last: 0, idleRssMb: 0, peakRssMb: 0 };
      this.#seen.set(pid, seen);
      seen.last = Math.max(seen.last, ticks);
      seen.peakRssMb = Math.max(seen.peakRssMb, peak);
    }
  }
}
