import { createHash } from 'node:crypto';
import { access, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { type AdminClient, connectAdmin } from '../../src/admin/admin-client.ts';
import type { PeerLine } from '../../src/admin/results.ts';
import { importArtifact } from '../../src/agent/import-artifact.ts';
import { IDENTITY_FILE } from '../../src/fleet/identity.ts';
import { defaultAgentConfig, type LabNode } from '../../src/lab/lab-node.ts';
import { signalProcess } from '../../src/lab/process.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import type { Contender, Payload, Race } from './contender.ts';
import { type Lane, laneConfig } from './lanes.ts';
import { processorTicks, TICKS_PER_SECOND } from './processor.ts';
import type { Scene } from './scene.ts';

export interface OursOptions {
  /** What chunk bytes may travel on. @default 'auto' */
  readonly lane?: Lane;
}

const ORIGIN = 'origin';
/** Agents that start at a time: more only wait for the processor. */
const STARTS = 4;
/** All together must know each other by then, milliseconds. */
const MEET_MS = 120_000;
/** The agents rest when each uses less than this share of a processor on average … */
const RESTING = 0.03;
/** … over so many milliseconds. */
const REST_MS = 500;

/**
 * Our agent, as `bootmesh up` starts it, one in each place. The origin's store has the payload before its agent starts;
 * a receiver is asked for a copy as an operator asks (`bootmesh pin`): done when all of it is verified, in its store
 * and synced to disk.
 */
export function ours({ lane = 'auto' }: OursOptions = {}): Contender {
  /** What the origin's store in a scene holds: it is kept over rounds. */
  const imported = new WeakMap<Scene, { readonly sha256: string; readonly cid: string }>();

  return {
    name: 'ours',
    missing: async () => undefined,

    async version() {
      const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8');
      return `bootmesh ${(JSON.parse(text) as { version: string }).version}`;
    },

    async prepare(scene, payload, { signal }) {
      const { lab } = scene;
      await using undo = new AsyncDisposableStack();
      undo.defer(() => stopAll(scene));
      const known = imported.get(scene);
      const fresh = known?.sha256 === payload.sha256 ? [] : [ORIGIN];
      for (const name of [...fresh, ...scene.nodes.map((place) => place.name)]) await wipe(lab.node(name).data);
      const { cid } = fresh.length === 0 && known ? known : await importPayload(lab.node(ORIGIN), payload, signal);
      imported.set(scene, { sha256: payload.sha256, cid });
      for (const node of Object.values(lab.nodes)) {
        const { swarm, ...rest } = defaultAgentConfig(node, lab.description);
        const own = { ...rest, swarm: { ...swarm, ...laneConfig(lane) } };
        await writeFile(node.config, stringify(own, { aliasDuplicateObjects: false }));
      }
      const queue = Object.keys(lab.nodes);
      const starter = async () => {
        for (let name = queue.shift(); name !== undefined; name = queue.shift()) await lab.startNode(name, { signal });
      };
      await Promise.all(Array.from({ length: STARTS }, starter));
      const race = await OurRace.open(scene, cid);
      await race.ready(signal);
      undo.move();
      return race;
    },
  };
}

class OurRace implements Race {
  readonly finished: readonly Promise<number>[];
  readonly #scene: Scene;
  readonly #cid: string;
  readonly #names: readonly string[];
  readonly #copies: PromiseWithResolvers<number>[];
  readonly #admins = new Map<string, AdminClient>();
  /** What a node had received in its earlier lives, and in this one when it was last asked, bytes. */
  readonly #before = new Map<string, number>();
  readonly #now = new Map<string, number>();
  readonly #over = new AbortController();
  #startedAt = 0;

  private constructor(scene: Scene, cid: string) {
    this.#scene = scene;
    this.#cid = cid;
    this.#names = scene.nodes.map(({ name }) => name);
    this.#copies = this.#names.map(() => Promise.withResolvers<number>());
    this.finished = this.#copies.map(({ promise }) => promise);
    for (const each of this.finished) each.catch(() => undefined);
  }

  static async open(scene: Scene, cid: string): Promise<OurRace> {
    const race = new OurRace(scene, cid);
    for (const name of [ORIGIN, ...race.#names]) await race.#meet(name);
    return race;
  }

  /** The origin serves the payload, everybody is connected to everybody, and all that this took is over. */
  async ready(signal: AbortSignal): Promise<void> {
    await this.#admin(ORIGIN).pin({ cid: this.#cid, name: 'payload' }, { signal });
    const late = performance.now() + MEET_MS;
    for (const name of [ORIGIN, ...this.#names]) {
      for (;;) {
        const { peersConnected } = await this.#admin(name).status({}, { signal });
        if (peersConnected >= this.#names.length) break;
        if (performance.now() > late) throw new TypeError(`${name} is connected to ${peersConnected} peers alone`);
        await delay(50, undefined, { signal });
      }
    }
    // A profiler never rests.
    if (!this.#scene.profiled) await resting(() => this.pids(), signal, late);
  }

  go(): void {
    this.#startedAt = performance.now();
    for (const node of this.#names.keys()) void this.#fetch(node);
  }

  async sha256(node: number): Promise<string> {
    const hash = createHash('sha256');
    const write = async (bytes: Uint8Array) => void hash.update(bytes);
    await this.#admin(this.#name(node)).get({ name: this.#cid }, { signal: this.#over.signal, write });
    return hash.digest('hex');
  }

  pids(): readonly number[] {
    return [ORIGIN, ...this.#names].flatMap((name) => this.#scene.lab.pid(name) ?? []);
  }

  async payloadSent(): Promise<number> {
    return sum((await this.#peers(ORIGIN)).map(({ bytesOut }) => bytesOut));
  }

  async payloadReceived(): Promise<readonly number[]> {
    return await Promise.all(this.#names.map((name) => this.#received(name)));
  }

  async lane(): Promise<string> {
    const lanes = (await this.#peers(ORIGIN)).flatMap((peer) => ('lane' in peer ? [String(peer.lane)] : []));
    return [...new Set(lanes)].sort().join(' ') || 'libp2p';
  }

  kill(place: 'origin' | number): void {
    const name = place === ORIGIN ? ORIGIN : this.#name(place);
    const pid = this.#scene.lab.pid(name);
    if (pid === undefined) return;
    signalProcess(pid, 'SIGKILL');
    this.#before.set(name, (this.#before.get(name) ?? 0) + (this.#now.get(name) ?? 0));
    this.#now.delete(name);
    this.#admins.delete(name);
  }

  async restart(node: number): Promise<void> {
    const name = this.#name(node);
    // A kill is done when the lab has seen it.
    await this.#scene.lab.stopNode(name, { signal: 'SIGKILL' });
    await this.#scene.lab.startNode(name, { signal: this.#over.signal });
    await this.#meet(name);
    void this.#fetch(node);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort(new Error('the race is over'));
    await stopAll(this.#scene);
    for (const name of this.#names) await wipe(this.#scene.lab.node(name).data);
  }

  async #fetch(node: number): Promise<void> {
    const name = this.#name(node);
    const admin = this.#admin(name);
    try {
      await admin.pin({ cid: this.#cid, name: 'payload' }, { signal: this.#over.signal });
      this.#copies[node]?.resolve(performance.now() - this.#startedAt);
    } catch (error) {
      // Killed: another life of the node goes on with it.
      if (this.#admins.get(name) === admin) this.#copies[node]?.reject(error);
    }
  }

  async #received(name: string): Promise<number> {
    // A node that is down has received what it had when it was killed.
    const now = this.#admins.has(name) ? sum((await this.#peers(name)).map(({ bytesIn }) => bytesIn)) : 0;
    if (this.#admins.has(name)) this.#now.set(name, now);
    return (this.#before.get(name) ?? 0) + now;
  }

  async #peers(name: string): Promise<readonly PeerLine[]> {
    return (await this.#admin(name).peers({}, { signal: this.#over.signal })).peers;
  }

  async #meet(name: string): Promise<void> {
    const admin = await connectAdmin(dirname(this.#scene.lab.node(name).socket));
    if (admin === undefined) throw new TypeError(`no agent answers at ${this.#scene.lab.node(name).socket}`);
    this.#admins.set(name, admin);
  }

  #admin(name: string): AdminClient {
    const admin = this.#admins.get(name);
    if (admin === undefined) throw new TypeError(`the agent of ${name} is not running`);
    return admin;
  }

  #name(node: number): string {
    return this.#names[node] ?? '';
  }
}

async function importPayload(node: LabNode, { path }: Payload, signal: AbortSignal): Promise<{ readonly cid: string }> {
  await using store = await PackStore.open(join(node.data, 'store'), { log: silentLog });
  const { manifest } = await importArtifact(path, store, { signal });
  await store.flush();
  return { cid: manifest.cid.toString() };
}

/** Everything but the key, by which the others know the node. */
async function wipe(data: string): Promise<void> {
  await access(data);
  for (const entry of await readdir(data)) {
    if (entry !== IDENTITY_FILE) await rm(join(data, entry), { recursive: true, force: true });
  }
}

/** Resolves when the processes have nothing left to do; `late` on the clock of `performance.now`. */
async function resting(pids: () => readonly number[], signal: AbortSignal, late: number): Promise<void> {
  const ticks = async () => sum(await Promise.all(pids().map(processorTicks)));
  for (let before = await ticks(); ; ) {
    await delay(REST_MS, undefined, { signal });
    const now = await ticks();
    const share = (now - before) / TICKS_PER_SECOND / (REST_MS / 1000) / Math.max(1, pids().length);
    if (share < RESTING) return;
    if (performance.now() > late) throw new TypeError(`the agents do not rest: each uses ${share} of a processor`);
    before = now;
  }
}

/** Killed: what they would write at their end is thrown away, unless it is a profile. */
async function stopAll({ lab, profiled }: Scene): Promise<void> {
  const signal = profiled ? 'SIGTERM' : 'SIGKILL';
  await Promise.all(Object.keys(lab.nodes).map((name) => lab.stopNode(name, { signal })));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
