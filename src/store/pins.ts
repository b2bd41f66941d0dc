import { open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CID } from 'multiformats/cid';
import { z } from 'zod';
import { syncDirectory } from '../disk/durable-file.ts';

/** A name that keeps an artifact in the store: `cid` is its manifest's root. */
export interface Pin {
  readonly name: string;
  readonly cid: CID;
}

const FORMAT = z.object({ version: z.literal(1), pins: z.record(z.string(), z.string()) });
const MAX_NAME = 256;

/** The pins file cannot be read. It is not replaced silently, since GC would then evict what it protects. */
export class InvalidPins extends Error {
  readonly code = 'INVALID_PINS';

  constructor(file: string, options?: ErrorOptions) {
    super(`cannot read pins from ${file}; mend the file, or remove it to unpin everything`, options);
    this.name = 'InvalidPins';
  }
}

/**
 * Named pins, kept as JSON beside the segments and not in the index, which may be thrown away. A change is on disk
 * when its promise resolves: written to a new file, synced, renamed.
 */
export class Pins {
  readonly #file: string;
  readonly #pins: Map<string, CID>;
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: string, pins: Map<string, CID>) {
    this.#file = file;
    this.#pins = pins;
  }

  static async open(file: string): Promise<Pins> {
    const text = await readFile(file, 'utf8').catch((error) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    if (text === undefined) return new Pins(file, new Map());
    try {
      const { pins } = FORMAT.parse(JSON.parse(text));
      return new Pins(file, new Map(Object.entries(pins).map(([name, cid]) => [name, CID.parse(cid)])));
    } catch (cause) {
      throw new InvalidPins(file, { cause });
    }
  }

  list(): Pin[] {
    return [...this.#pins].map(([name, cid]) => ({ name, cid }));
  }

  /** Pins `cid` under `name`, in place of what that name pinned before. */
  async pin(name: string, cid: CID): Promise<void> {
    if (name.length < 1 || name.length > MAX_NAME) throw new RangeError(`pin names have 1 to ${MAX_NAME} characters`);
    if (this.#pins.get(name)?.equals(cid)) return this.#writing;
    this.#pins.set(name, cid);
    await this.#save();
  }

  /** False when no such name was pinned. */
  async unpin(name: string): Promise<boolean> {
    if (!this.#pins.delete(name)) return false;
    await this.#save();
    return true;
  }

  #save(): Promise<void> {
    const write = async () => {
      const pins = Object.fromEntries([...this.#pins].map(([name, cid]) => [name, cid.toString()]));
      const temporary = `${this.#file}.new`;
      {
        await using file = await open(temporary, 'w', 0o600);
        await file.writeFile(`${JSON.stringify({ version: 1, pins }, null, 2)}\n`);
        await file.sync();
      }
      await rename(temporary, this.#file);
      await syncDirectory(dirname(this.#file));
    };
    const saved = this.#writing.then(write);
    this.#writing = saved.catch(() => {});
    return saved;
  }
}
