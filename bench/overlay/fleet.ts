import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { type AdminClient, connectAdmin } from '../../src/admin/admin-client.ts';
import { parseDescription } from '../../src/fleet/description.ts';
import { type Lab, labUp } from '../../src/lab/lab.ts';
import { AGENT_FLAGS } from '../../src/launch/agent-process.js';

/** What a site's router does to ports: the same for all destinations (RFC 4787's endpoint-independent mapping), or not. */
export type Nat = 'kept' | 'random';

/** The two sites; their nodes, the first of each and the second's keys are the fleet's own. */
export const SITES = { edge: 'plant', far: 'office' } as const;
/** Has the fleet's keys, in the far site. */
export const HOLDER = 'office-1';
/** Admits at the edge. */
export const ISSUER = 'plant-1';
/** Has no disk, at the edge: it joins anew after each start. */
export const DISKLESS = 'plant-ram';
/** Is bought later, for the edge. */
export const NEWCOMER = 'plant-new';
export const GATEWAY = 'gateway';

export const PLACES = { bootmesh: fileURLToPath(new URL('../../src/launch/launch.js', import.meta.url)) };
/** Patience for what takes a moment, milliseconds. */
const PATIENCE_MS = 120_000;
const LOOK_MS = 250;

/** Half of `nodes` in each of the two sites behind NATs, and one gateway outside of both. */
export function describeFleet(nodes: number, nat: Nat): string {
  const half = Math.floor(nodes / 2);
  const number = (n: number) => n + 1;
  const far = Array.from({ length: nodes - half }, (_, n) => [
    `${SITES.far}-${number(n)}`,
    { site: SITES.far, ...(n === 0 && { keys: true, roles: ['origin'] }) },
  ]);
  const edge = Array.from({ length: half - 1 }, (_, n) => [
    `${SITES.edge}-${number(n)}`,
    { site: SITES.edge, ...(n === 0 && { issuer: true }) },
  ]);
  const later = [DISKLESS, NEWCOMER].map((name) => [name, { site: SITES.edge, enrolled: false }]);
  const behind = { nat, uplink: { up: '100Mbit', down: '100Mbit' }, lan: '1Gbit' };
  return stringify({
    fleet: 'bench-overlay',
    channels: ['production'],
    overlay: true,
    sites: { hub: {}, [SITES.edge]: behind, [SITES.far]: behind },
    nodes: {
      [GATEWAY]: { site: 'hub', roles: ['gateway', 'seed'] },
      ...Object.fromEntries([...far, ...edge, ...later]),
    },
  });
}

/** A fleet that stands in a lab of its own, which goes when it is disposed of. */
export class OverlayFleet implements AsyncDisposable {
  readonly lab: Lab;
  readonly directory: string;
  /** Those that run, or should. */
  readonly running: Set<string>;

  private constructor(lab: Lab, directory: string, running: readonly string[]) {
    this.lab = lab;
    this.directory = directory;
    this.running = new Set(running);
  }

  static async open(nodes: number, nat: Nat, { signal }: { readonly signal: AbortSignal }): Promise<OverlayFleet> {
    const directory = await mkdtemp(join(tmpdir(), 'bm-bench-overlay-'));
    const description = parseDescription(describeFleet(nodes, nat), join(directory, 'fleet.yaml'));
    const agentCommand = [process.execPath, ...AGENT_FLAGS, PLACES.bootmesh, 'up'];
    const bootmesh = [process.execPath, PLACES.bootmesh];
    try {
      const lab = await labUp(description, { agentCommand, bootmesh, directory: join(directory, 'lab') }, { signal });
      const members = Object.values(lab.nodes).filter(({ enrolled }) => enrolled);
      return new OverlayFleet(
        lab,
        directory,
        members.map(({ name }) => name),
      );
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** The running agent's own operations. */
  async admin(name: string): Promise<AdminClient> {
    const client = await connectAdmin(this.lab.node(name).data);
    if (client === undefined) throw new Error(`no agent answers at ${name}: see ${this.lab.node(name).log}`);
    return client;
  }

  /** Names of the running nodes of a site. */
  at(site: string): string[] {
    return [...this.running].filter((name) => this.lab.node(name).site === site);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Milliseconds until it was so. Rejects with what it was instead, when it is not within the time. */
export async function until(
  look: () => Promise<string | undefined>,
  { signal, ms = PATIENCE_MS }: { readonly signal: AbortSignal; readonly ms?: number },
): Promise<number> {
  const from = performance.now();
  for (;;) {
    const wrong = await look();
    if (wrong === undefined) return Math.round(performance.now() - from);
    if (performance.now() - from > ms) throw new Error(`not within ${ms / 1000} s: ${wrong}`);
    await delay(LOOK_MS, undefined, { signal });
  }
}
