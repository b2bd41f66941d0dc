import { createHash, randomBytes } from 'node:crypto';
import { link, mkdir, readdir, readFile, rename, rm, rmdir, unlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { isAlive, type ProcessRef } from './process.ts';

const ref = z.object({ pid: z.int().positive(), startTime: z.string() });
const stateSchema = z.object({
  version: z.literal(1),
  fleet: z.string(),
  /** The process that holds the lab up. */
  owner: ref,
  /** True once everything stands. */
  ready: z.boolean(),
  /** Every namespace that was going to be made, written before the first one was. */
  namespaces: z.array(z.string()),
  /** Running agents by node, and running machines by name. */
  agents: z.record(z.string(), ref),
  machines: z.record(z.string(), ref),
  /** Sites that do not reach each other, or one that reaches nobody. */
  cuts: z.array(z.array(z.string())).default([]),
  /** The nodes' addresses in the overlay, where there is one. */
  overlay: z.record(z.string(), z.string()).default({}),
});

/** What a lab has made on this machine, as its state file holds it. */
export type LabState = z.output<typeof stateSchema>;

/** Another process holds a lab up in the same directory. */
export class LabBusy extends Error {
  readonly code = 'LAB_BUSY';
  readonly directory: string;
  readonly owner: ProcessRef | undefined;

  constructor(directory: string, owner?: ProcessRef) {
    const who = owner ? `process ${owner.pid}` : 'another process';
    super(`${who} holds a lab up in ${directory}: end it there, or run \`bootmesh lab down\``);
    this.name = 'LabBusy';
    this.directory = directory;
    this.owner = owner;
  }
}

/** The directory holds somebody else's files, or cannot hold a lab's. */
export class LabDirectoryUnusable extends Error {
  readonly code = 'LAB_DIRECTORY_UNUSABLE';
  readonly directory: string;

  constructor(directory: string, why: string) {
    super(`${directory} cannot be a lab's directory: ${why}`);
    this.name = 'LabDirectoryUnusable';
    this.directory = directory;
  }
}

/** There is no lab in the directory, or it has nothing of that name. */
export class LabNotFound extends Error {
  readonly code = 'LAB_NOT_FOUND';

  constructor(message: string) {
    super(message);
    this.name = 'LabNotFound';
  }

  /** @param what such as `node` */
  static unknown(what: string, name: string, known: readonly string[]): LabNotFound {
    return new LabNotFound(`the lab has no ${what} '${name}': it has ${known.join(', ') || 'none'}`);
  }
}

/** The lab does not do that; the message says why, and what to do. */
export class LabRefused extends Error {
  readonly code = 'LAB_REFUSED';

  constructor(message: string) {
    super(message);
    this.name = 'LabRefused';
  }
}

/** Only root writes here, so nobody else can put a link in a predictable name's place. */
const LABS_DIRECTORY = '/var/lib/bootmesh-lab';
const STATE_FILE = 'lab.json';
/** All that a lab writes into its directory. Nothing else in it is ever removed. */
const OWN_ENTRIES = [STATE_FILE, 'fleet.yaml', 'nodes', 'machines', 'keys', 'lab.sock'];

/** The agent's control socket in its data directory. */
const AGENT_SOCKET = 'agent.sock';
/** Length of sun_path less the closing NUL, unix(7). */
const MAX_SOCKET_PATH = 107;

/** Where a lab of this fleet keeps its state when nobody says otherwise. */
export function labDirectory(fleet: string): string {
  return join(LABS_DIRECTORY, fleet);
}

/** The directory of one lab: the state file, and the paths of all else. */
export class LabDirectory {
  readonly path: string;
  /** A short word in the names of all the lab's namespaces. The same directory always gets the same. */
  readonly id: string;
  readonly fleetFile: string;
  /** Directory of the fleet's own keys, where the lab makes them. */
  readonly keys: string;
  /** Where the process that holds the lab up takes requests of others. */
  readonly socket: string;
  readonly #stateFile: string;
  #writes: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.path = resolve(path);
    this.id = createHash('sha256').update(this.path).digest('hex').slice(0, 6);
    this.fleetFile = join(this.path, 'fleet.yaml');
    this.keys = join(this.path, 'keys');
    this.socket = join(this.path, 'lab.sock');
    this.#stateFile = join(this.path, STATE_FILE);
  }

  /** What the names of the lab's namespaces start with. */
  get prefix(): string {
    return `bm-${this.id}-`;
  }

  /**
   * What the names of the overlays' interfaces start with: wireguard-go keeps the control sockets of all network
   * namespaces in one directory, by the interface's name. With a number of 4 digits it has the 15 characters that fit.
   */
  get interfacePrefix(): string {
    return `bm${this.id}-`;
  }

  /** The files of one node's agent. */
  node(name: string): {
    readonly data: string;
    readonly config: string;
    readonly log: string;
    readonly socket: string;
  } {
    const folder = join(this.path, 'nodes', name);
    const data = join(folder, 'data');
    return {
      data,
      config: join(folder, 'agent.yaml'),
      log: join(folder, 'agent.log'),
      socket: join(data, AGENT_SOCKET),
    };
  }

  /** The file that gets a machine's serial port. */
  serialLog(machine: string): string {
    return join(this.path, 'machines', `${machine}.serial.log`);
  }

  /** The state; undefined when there is none, 'damaged' when it cannot be understood. */
  async read(): Promise<LabState | 'damaged' | undefined> {
    try {
      const checked = stateSchema.safeParse(JSON.parse(await readFile(this.#stateFile, 'utf8')));
      return checked.success ? checked.data : 'damaged';
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
      if (error instanceof SyntaxError) return 'damaged';
      throw error;
    }
  }

  /** Writes the first state. @throws {LabBusy} when another process was first. */
  async claim(state: LabState): Promise<void> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    const draft = await this.#draft(state);
    try {
      await link(draft, this.#stateFile);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw new LabBusy(this.path);
      throw error;
    } finally {
      await unlink(draft);
    }
  }

  /** Replaces the state; the file is always a whole one, and calls take effect in their order. */
  write(state: LabState): Promise<void> {
    const snapshot = structuredClone(state);
    const written = this.#writes.then(async () => rename(await this.#draft(snapshot), this.#stateFile));
    this.#writes = written.catch(() => undefined);
    return written;
  }

  /** Entries that no lab wrote: a directory with such is somebody's, and not ours to fill or clear. */
  async foreignEntries(): Promise<string[]> {
    const entries = await readdir(this.path).catch(ignoreMissing);
    return (entries ?? []).filter((name) => !OWN_ENTRIES.includes(name) && !name.startsWith(`${STATE_FILE}.`));
  }

  /** Removes what a lab wrote: all of it, or with `keepLogs` the state file alone. */
  async clear(keepLogs = false): Promise<void> {
    await this.#writes;
    const drafts = ((await readdir(this.path).catch(ignoreMissing)) ?? []).filter((name) =>
      name.startsWith(STATE_FILE),
    );
    const own = keepLogs ? drafts : [...drafts, ...OWN_ENTRIES];
    for (const name of own) await rm(join(this.path, name), { recursive: true, force: true });
    await rmdir(this.path).catch(() => undefined);
  }

  async #draft(state: LabState): Promise<string> {
    const draft = `${this.#stateFile}.${randomBytes(4).toString('hex')}`;
    await writeFile(draft, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
    return draft;
  }
}

/**
 * Makes this process the holder of the lab in `directory`. A lab whose holder is dead is cleaned up first.
 * @throws {LabBusy} {LabDirectoryUnusable}
 */
export async function claimDirectory(
  directory: LabDirectory,
  state: LabState,
  nodes: readonly string[],
  cleanUp: () => Promise<unknown>,
): Promise<void> {
  const foreign = await directory.foreignEntries();
  if (foreign.length > 0) {
    throw new LabDirectoryUnusable(directory.path, `it holds ${foreign.slice(0, 3).join(', ')}; name an empty one`);
  }
  const longest = Math.max(0, ...nodes.map((name) => directory.node(name).socket.length));
  if (longest > MAX_SOCKET_PATH) {
    const why = `its path makes sockets of ${longest} characters, and ${MAX_SOCKET_PATH} are possible; name a shorter one`;
    throw new LabDirectoryUnusable(directory.path, why);
  }
  const found = await directory.read();
  if (typeof found === 'object' && (await isAlive(found.owner))) throw new LabBusy(directory.path, found.owner);
  await cleanUp();
  await directory.claim(state);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw error;
}
