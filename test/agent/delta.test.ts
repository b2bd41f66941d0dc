import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Artifacts } from '../../src/agent/artifacts.ts';
import { Follower } from '../../src/agent/follower.ts';
import { importArtifact } from '../../src/agent/import-artifact.ts';
import { LocalOperations } from '../../src/agent/local-operations.ts';
import type { MeshNode } from '../../src/agent/node.ts';
import { silentLog } from '../../src/observe/log.ts';
import { PackStore } from '../../src/store/pack-store.ts';
import { FakeNetwork } from '../fakes/metadata-network.ts';
import { TestFleet } from '../fakes/release-fleet.ts';
import { Fleet } from '../swarm/fleet.ts';

const BYTES = 4_000_000;
const CHANGES = 6;
const signal = AbortSignal.timeout(60_000);
let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'bm-delta-'));
});
after(() => rm(root, { recursive: true, force: true }));

async function open(stack: AsyncDisposableStack, fleet: Fleet, site: string) {
  const store = stack.use(await PackStore.open(join(root, randomBytes(4).toString('hex')), { log: silentLog }));
  const { swarm } = await fleet.node({ store, site });
  return { store, swarm, artifacts: new Artifacts({ store, swarm, log: silentLog }) };
}

type Node = Awaited<ReturnType<typeof open>>;

async function add({ store, artifacts }: Node, bytes: Uint8Array) {
  const path = join(root, randomBytes(4).toString('hex'));
  await writeFile(path, bytes);
  const { manifest, ref } = await importArtifact(path, store, { signal });
  await artifacts.imported(manifest);
  return { path, ref, manifest };
}

/** A few new bytes in some places, and a few that push the rest on. */
function next(bytes: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let n = 0; n < CHANGES; n += 1) {
    const from = Math.floor((n * bytes.length) / CHANGES);
    parts.push(randomBytes(100), bytes.subarray(from + (n % 2) * 100, Math.floor(((n + 1) * bytes.length) / CHANGES)));
  }
  return Buffer.concat(parts);
}

function cameTo({ swarm }: Node): number {
  return swarm.peers().reduce((sum, { bytesIn }) => sum + bytesIn, 0);
}

describe('a node that has a version', () => {
  it('gets the next one of its channel by what is new in it', { timeout: 60_000 }, async () => {
    await using releases = await TestFleet.create();
    await using stack = new AsyncDisposableStack();
    const fleet = stack.use(new Fleet());
    const origin = await open(stack, fleet, 'far');
    const edge = await open(stack, fleet, 'here');
    const channels = stack.use(await releases.node(new FakeNetwork().node('edge')));
    const pins = edge.store.pins;
    const follower = stack.use(
      new Follower({ channels, artifacts: edge.artifacts, pins, log: silentLog }, ['production']),
    );
    let bytes: Buffer = randomBytes(BYTES);
    const came: number[] = [];
    for (let version = 1; version <= 3; version += 1) {
      const before = cameTo(edge);
      const { ref } = await add(origin, bytes);
      await releases.publish('any', { kernel: ref, initramfs: ref, rootfs: ref });
      await channels.adopt(releases.repository, { signal });
      while (follower.following('production')?.held?.version !== version) await delay(10, undefined, { signal });
      came.push(cameTo(edge) - before);
      bytes = next(bytes);
    }
    const [first = 0, ...later] = came;
    assert.ok(first > BYTES && first < 1.02 * BYTES, `${first} bytes for the first`);
    // 600 bytes are new, in about as many chunks as there are changes; the manifest names 30.
    for (const each of later) assert.ok(each > CHANGES * 100 && each < 12_000, `${each} bytes for the next`);
  });

  it('gets the next one by what is new in it with the one it has as a seed, or its copy', async () => {
    await using stack = new AsyncDisposableStack();
    const fleet = stack.use(new Fleet());
    const origin = await open(stack, fleet, 'far');
    const edge = await open(stack, fleet, 'here');
    await new Promise<void>((resolve) => edge.swarm.documents.onConnect(() => resolve()));
    const bytes = randomBytes(BYTES);
    const old = await add(origin, bytes);
    const wanted = next(bytes);
    const { ref } = await add(origin, wanted);
    const node = { ...edge, releases: undefined } as unknown as MeshNode;
    const operations = new LocalOperations({ node, data: root, checkCommandLine: () => undefined });
    const written: Uint8Array[] = [];
    const phases = new Set<string>();
    const result = await operations.get(
      { name: ref.cid, seed: [old.path] },
      {
        signal,
        write: async (piece) => void written.push(Uint8Array.from(piece)),
        onProgress: ({ phase }) => phases.add(phase),
      },
    );
    assert.ok(Buffer.concat(written).equals(wanted));
    assert.equal(result.sha256, createHash('sha256').update(wanted).digest('hex'));
    assert.deepEqual(phases, new Set([`seed ${old.path}`, 'fetch']));
    const { seeded = 0, transferred = 0 } = result;
    assert.ok(seeded > 0.7 * BYTES && seeded < BYTES, `${seeded} bytes from the seed`);
    // Here the manifest comes whole: it is asked for before it is known what it is like.
    assert.ok(transferred > CHANGES * 100 && transferred < 15_000, `${transferred} bytes from others`);
    assert.equal(transferred, cameTo(edge));
    await assert.rejects(
      operations.get({ name: ref.cid, seed: [join(root, 'none')] }, { signal, write: async () => undefined }),
      { code: 'SEED_UNUSABLE' },
    );
  });
});
