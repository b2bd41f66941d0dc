import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { type Disk, durableDisk } from '../disk/durable-file.ts';
import { FileUnusable, readGuarded } from '../disk/guarded-file.ts';
import type { Log } from '../observe/log.ts';

interface Deps {
  readonly log: Log;
  /** The machine's clock, milliseconds since 1970. @default Date.now */
  readonly system?: () => number;
  /** Milliseconds that never go back while this runs. @default performance.now */
  readonly elapsed?: () => number;
  readonly disk?: Disk;
}

/** How far the machine's clock and what was signed are apart; times in milliseconds since 1970. */
export interface ClockFault {
  /** behind: the machine's clock is before a time that is certainly over. ahead: somebody signed at a later time than it shows. */
  readonly kind: 'behind' | 'ahead';
  readonly system: number;
  readonly signed: number;
}

/** A moment, and when that was on the clock that never goes back. */
interface Moment {
  readonly at: number;
  readonly up: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** No clock is right that is behind the day on which this was written. */
export const WRITTEN = Date.parse('2026-11-01T00:00:00Z');
/** Clocks that differ by no more agree. */
const TOLERANCE_MS = 300_000;
/** A longer step of the floor has to be borne out by the machine's clock for so long: one that was wrong for an hour, as an issuer's was, leaves nothing behind. */
const STEP_MS = 30 * DAY_MS;
const BORNE_OUT_MS = 6 * HOUR_MS;
/** The floor is written when it has moved by so much, and at the end. */
const WORTH_WRITING_MS = HOUR_MS;
const WRITE_SOON_MS = 1_000;
const MAX_FILE_BYTES = 1024;
/** The last day that there is a name for (ECMA-262, 21.4.1.1). */
const END_OF_TIME = 8.64e15;

const fileSchema = z.strictObject({ format: z.literal(1), floor: z.int().min(0).max(END_OF_TIME) });

/**
 * The time by which certificates, tokens and metadata of the fleet are judged: the machine's clock, but never before the
 * floor, which is on disk. The floor rises to times at which an issuer or a release key of the fleet has signed, as far
 * as the machine's own clock has come to them: neither a wrong clock of an issuer nor one of this machine alone moves it.
 * Only where the machine's clock is behind the floor, and so certainly wrong, later signed times are followed, until it
 * is set.
 */
export class FleetClock implements AsyncDisposable {
  readonly #file: string;
  readonly #log: Log;
  readonly #system: () => number;
  readonly #elapsed: () => number;
  readonly #disk: Disk;
  #floor: Moment;
  /** The newest signed time that the machine's clock has not come to. */
  #ahead: Moment | undefined;
  /** A long step that the machine's clock has borne out from `up` on. */
  #step: Moment | undefined;
  #written: number;
  #said: ClockFault['kind'] | undefined;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: string, deps: Deps, kept: number) {
    this.#file = file;
    this.#log = deps.log;
    this.#system = deps.system ?? Date.now;
    this.#elapsed = deps.elapsed ?? (() => performance.now());
    this.#disk = deps.disk ?? durableDisk;
    this.#written = kept;
    this.#floor = { at: Math.max(WRITTEN, kept), up: this.#elapsed() };
  }

  /** Reads what was kept in `file`. What is damaged there is told, and counts as nothing. */
  static async open(file: string, deps: Deps): Promise<FleetClock> {
    return new FleetClock(file, deps, await readFloor(file, deps.log));
  }

  /** Milliseconds since 1970. */
  now(): number {
    const system = this.#system();
    this.#settle(system);
    const fault = this.#fault(system);
    this.#say(fault);
    if (fault?.kind !== 'behind') return Math.max(system, this.#floor.at);
    // What has passed since then is over as well.
    this.#raise(this.#since(this.#floor));
    return Math.max(this.#floor.at, this.#ahead === undefined ? 0 : this.#since(this.#ahead));
  }

  /** An issuer of the fleet, or a release key of it, has signed at this time: its signature was checked. */
  signed(at: number): void {
    if (at <= this.#floor.at || at > END_OF_TIME) return;
    const up = this.#elapsed();
    if (at > this.#system() + TOLERANCE_MS) {
      if (at > (this.#ahead?.at ?? 0)) this.#ahead = { at, up };
    } else if (at <= this.#since(this.#floor) + STEP_MS) {
      this.#raise(at);
    } else if (at > (this.#step?.at ?? 0)) {
      this.#step = { at, up: this.#step?.up ?? up };
    }
  }

  /** What is to be said of the machine's clock; undefined when nothing is wrong with it. */
  get fault(): ClockFault | undefined {
    const system = this.#system();
    this.#settle(system);
    return this.#fault(system);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#floor.at > this.#written) this.#write();
    await this.#writing;
  }

  #fault(system: number): ClockFault | undefined {
    if (system < this.#floor.at - TOLERANCE_MS) return { kind: 'behind', system, signed: this.#floor.at };
    return this.#ahead && { kind: 'ahead', system, signed: this.#ahead.at };
  }

  /** What the machine's clock has come to meanwhile, and what it does not bear out any more. */
  #settle(system: number): void {
    const [ahead, step] = [this.#ahead, this.#step];
    if (ahead !== undefined && ahead.at <= system + TOLERANCE_MS) {
      this.#ahead = undefined;
      this.signed(ahead.at);
    }
    if (step === undefined) return;
    if (system < step.at - TOLERANCE_MS) {
      this.#step = undefined;
      this.signed(step.at);
    } else if (this.#elapsed() - step.up >= BORNE_OUT_MS) {
      this.#step = undefined;
      this.#raise(step.at);
    }
  }

  /** When it is now, if it was `moment` then. */
  #since({ at, up }: Moment): number {
    return at + this.#elapsed() - up;
  }

  #raise(at: number): void {
    this.#floor = { at: Math.max(this.#floor.at, at), up: this.#elapsed() };
    if (this.#floor.at - this.#written < WORTH_WRITING_MS) return;
    this.#timer ??= setTimeout(() => this.#write(), WRITE_SOON_MS).unref();
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const floor = Math.floor(this.#floor.at);
    this.#written = floor;
    this.#writing = this.#writing
      .then(() => mkdir(dirname(this.#file), { recursive: true, mode: 0o700 }))
      .then(() => this.#disk.replace(this.#file, Buffer.from(`${JSON.stringify({ format: 1, floor })}\n`)))
      .catch((error: unknown) => {
        this.#written = 0;
        this.#log.error('the time floor cannot be written: it is tried again when it rises', { error });
      });
  }

  /** Once, until it is another fault. */
  #say(fault: ClockFault | undefined): void {
    if (fault?.kind === this.#said) return;
    this.#said = fault?.kind;
    if (fault === undefined) {
      this.#log.info('the clock of this machine agrees with what was signed');
      return;
    }
    const facts = { clock: iso(fault.system), signed: iso(fault.signed) };
    if (fault.kind === 'ahead') {
      this.#log.warn('a key of the fleet signed later than this clock shows', facts);
      return;
    }
    const advice = `set it; if it is right now and was wrong before, stop the agent and delete ${this.#file}`;
    this.#log.error('the clock of this machine is behind the time floor, which counts instead', { ...facts, advice });
  }
}

async function readFloor(file: string, log: Log): Promise<number> {
  try {
    const json = await readGuarded(file, { maxBytes: MAX_FILE_BYTES });
    return json === undefined ? 0 : fileSchema.parse(JSON.parse(json.toString('utf8'))).floor;
  } catch (error) {
    if (!(error instanceof FileUnusable || error instanceof SyntaxError || error instanceof z.ZodError)) throw error;
    log.error('the time floor cannot be read: it starts from when this program was written', { file, error });
    return 0;
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
