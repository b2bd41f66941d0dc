import { createHash } from 'node:crypto';
import { readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CID } from 'multiformats/cid';
import { stringify } from 'yaml';
import { type AdminClient, connectAdmin } from '../../src/admin/admin-client.ts';
import { importArtifact } from '../../src/agent/import-artifact.ts';
import { IDENTITY_FILE } from '../../src/fleet/identity.ts';
import { defaultAgentConfig, type LabNode } from '../../src/lab/lab-node.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import type { Payload } from '../site/contender.ts';
import { ours as racing } from '../site/ours.ts';
import type { Scene } from '../site/scene.ts';
import type { Update, Updater } from './updater.ts';
import type { VersionPair } from './version-pair.ts';

/** The two must know each other by then, milliseconds. */
const MEET_MS = 30_000;
/** The wire is at rest when it carries less than this … */
const REST_BYTES = 4_000;
/** … in so many milliseconds. */
const REST_MS = 1_000;

/**
 * Our agents, as `bootmesh up` starts them. `store`: the node holds the first version as a release before, and is asked
 * for the second (`bootmesh pin`). `seed`: its store is empty, and the first is a file (`bootmesh get --seed`).
 */
export function ours(way: 'store' | 'seed'): Updater {
  return {
    name: way === 'store' ? 'ours' : 'ours --seed',
    missing: async () => undefined,
    version: () => racing().version(),

    async prepare(scene, pair, { signal }) {
      const { lab } = scene;
      const [place] = scene.nodes;
      if (place === undefined) throw new TypeError('the scene has one node');
      const [origin, node] = [lab.node(scene.origin.name), lab.node(place.name)];
      await using stack = new AsyncDisposableStack();
      stack.defer(async () => {
        await Promise.all([origin, node].map(({ name }) => lab.stopNode(name, { signal: 'SIGKILL' })));
        await Promise.all([origin, node].map(wipe));
      });
      await Promise.all([origin, node].map(wipe));
      const [, after] = await fill(origin, [pair.before, pair.after], signal);
      await fill(node, way === 'store' ? [pair.before] : [], signal);
      if (after === undefined) throw new TypeError('the origin has two versions');
      for (const one of [origin, node]) {
        await writeFile(
          one.config,
          stringify(defaultAgentConfig(one, lab.description), { aliasDuplicateObjects: false }),
        );
        await lab.startNode(one.name, { signal });
      }
      await (await adminOf(origin)).pin({ cid: after, name: 'after' }, { signal });
      const admin = await adminOf(node);
      await untilAtRest(scene, admin, signal);
      const before = await traffic(admin, signal);
      const all = stack.move();
      const update = way === 'store' ? pinning(admin, after, signal) : getting(admin, after, pair, signal);
      return {
        ...update,
        counted: async () => (await traffic(admin, signal)) - before,
        [Symbol.asyncDispose]: () => all.disposeAsync(),
      };
    },
  };
}

/** The store has it, verified and synced, when the pin is answered; what it gives back is hashed. */
function pinning(admin: AdminClient, cid: string, signal: AbortSignal): Pick<Update, 'go' | 'sha256'> {
  return {
    go: async () => void (await admin.pin({ cid, name: 'after' }, { signal })),
    sha256: async () => {
      const hash = createHash('sha256');
      await admin.get({ name: cid }, { signal, write: async (bytes) => void hash.update(bytes) });
      return hash.digest('hex');
    },
  };
}

function getting(
  admin: AdminClient,
  cid: string,
  { before }: VersionPair,
  signal: AbortSignal,
): Pick<Update, 'go' | 'sha256'> {
  const hash = createHash('sha256');
  return {
    go: async () => {
      const write = async (bytes: Uint8Array) => void hash.update(bytes);
      await admin.get({ name: cid, seed: [before.path] }, { signal, write });
    },
    sha256: async () => hash.digest('hex'),
  };
}

/** Bytes of chunks and nodes with their frames, and of the messages about them, in and out. */
async function traffic(admin: AdminClient, signal: AbortSignal): Promise<number> {
  const { peers } = await admin.peers({}, { signal });
  return peers.reduce((sum, { bytesIn, bytesOut, messageBytes = 0 }) => sum + bytesIn + bytesOut + messageBytes, 0);
}

async function adminOf(node: LabNode): Promise<AdminClient> {
  const admin = await connectAdmin(dirname(node.socket));
  if (admin === undefined) throw new TypeError(`no agent answers at ${node.socket}`);
  return admin;
}

/** Resolves with the versions' CIDs; each is pinned, as releases are. */
async function fill(node: LabNode, versions: readonly Payload[], signal: AbortSignal): Promise<string[]> {
  await using store = await PackStore.open(join(node.data, 'store'), { log: silentLog });
  const cids: string[] = [];
  for (const [n, { path }] of versions.entries()) {
    const { manifest } = await importArtifact(path, store, { signal });
    await store.pins.pin(`version-${n}`, CID.parse(manifest.cid.toString()));
    cids.push(manifest.cid.toString());
  }
  return cids;
}

/** Everything but the key, by which the others know the node. */
async function wipe({ data }: LabNode): Promise<void> {
  for (const entry of await readdir(data)) {
    if (entry !== IDENTITY_FILE) await rm(join(data, entry), { recursive: true, force: true });
  }
}

/** They are connected, and have said what there is to say about that. */
async function untilAtRest(scene: Scene, admin: AdminClient, signal: AbortSignal): Promise<void> {
  const late = performance.now() + MEET_MS;
  const carried = async () => {
    const { originUp, originDown } = await scene.counters();
    return originUp + originDown;
  };
  for (let before = await carried(); ; ) {
    await delay(REST_MS, undefined, { signal });
    const now = await carried();
    const { peersConnected } = await admin.status({}, { signal });
    if (peersConnected > 0 && now - before < REST_BYTES) return;
    if (performance.now() > late) throw new TypeError(`the wire is not at rest: ${now - before} bytes in a second`);
    before = now;
  }
}
