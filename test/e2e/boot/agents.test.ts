import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { ArtifactLine, PublishResult } from '../../../src/admin/results.ts';
import { missingRequirements } from '../../../src/lab/requirements.ts';
import { openSite } from './boot-site.ts';
import { noise } from './small-rootfs.ts';

const missing = await missingRequirements();
const skip = missing.length === 0 ? false : missing.join('; ');
const LIMIT_MS = 60_000;
const ROOTFS_BYTES = 10e6;
const CMDLINE = 'console=ttyS0';

/** The origin is behind an uplink that makes a fetch last some two seconds. */
const DESCRIPTION = `
fleet: agents
channels: [demo]
sites:
  far: { uplink: { up: 40Mbit, down: 40Mbit } }
  here: { lan: 1Gbit }
nodes:
  origin: { site: far, roles: [origin] }
  east: { site: here, roles: [seed] }
  west: { site: here }
  south: { site: here }
`;
const EDGE = ['east', 'west', 'south'] as const;

let scene: Awaited<ReturnType<typeof openSite>>;
/** Version by version. */
const published: PublishResult[] = [];

before(async () => {
  if (skip) return;
  const signal = AbortSignal.timeout(LIMIT_MS);
  scene = await openSite(DESCRIPTION, {
    signal,
    materials: async ({ directory }) => ({
      kernel: await file(directory, 'kernel', noise(300_000)),
      kernelRelease: 'none',
      initramfs: await file(directory, 'initramfs', noise(200_000).reverse()),
      rootfs: await file(directory, 'rootfs', noise(ROOTFS_BYTES)),
    }),
  });
});
after(async () => {
  await scene?.[Symbol.asyncDispose]();
});

describe('agents in a lab', { skip, timeout: 2 * LIMIT_MS }, () => {
  it('fetch on when the origin was killed meanwhile and is back, and each chunk leaves it about once', async () => {
    const { site } = scene;
    const { lab } = site;
    const signal = AbortSignal.timeout(LIMIT_MS);
    published.push(await site.publish(CMDLINE, { signal }));
    await site.start(EDGE, { signal });
    const half = new AbortController();
    const onShares = (shares: readonly number[]) => Math.max(...shares) > 0.4 && half.abort();
    await assert.rejects(site.untilHeld(EDGE, { signal: AbortSignal.any([signal, half.signal]), onShares }));
    signal.throwIfAborted();
    await lab.stopNode(site.publisher, { signal: 'SIGKILL' });
    await site.start([site.publisher], { signal });
    await site.untilHeld(EDGE, { signal });
    const fromOrigin = (await Promise.all(EDGE.map((name) => bytesFrom(name, site.publisher)))).reduce(sum);
    const payload = published[0]?.payloadBytes ?? 0;
    assert.ok(fromOrigin >= payload && fromOrigin < 1.15 * payload, `${fromOrigin} of ${payload} bytes`);
  });

  it('keep their release over a restart, and fetch nothing again', async () => {
    const { site } = scene;
    const signal = AbortSignal.timeout(LIMIT_MS);
    await site.lab.stopNode('west', { signal: 'SIGKILL' });
    await site.start(['west'], { signal });
    await site.untilHeld(['west'], { signal });
    assert.equal(await bytesFrom('west'), 0);
    assert.deepEqual(await pinnedVersions('west'), [1]);
  });

  it('find a byte that was flipped on disk, name it, and get it again from a neighbour', async () => {
    const { site } = scene;
    const signal = AbortSignal.timeout(LIMIT_MS);
    const west = await site.admin('west');
    const before = await bytesFrom('west');

    // Seen by a reader first: it gets the right bytes all the same.
    await flipOnDisk('west', 4_000_000);
    await readsRight('west', artifact('rootfs'));
    assert.ok((await bytesFrom('west')) > before);
    await site.untilHeld(['west'], { signal });
    assert.deepEqual((await west.verify({}, { signal })).damaged, []);

    // Seen by verify first: it says where.
    const segment = await flipOnDisk('west', 6_000_000);
    const { damaged } = await west.verify({}, { signal });
    assert.deepEqual(
      damaged.map(({ file: named }) => named),
      [segment],
    );
    const log = await readFile(site.lab.node('west').log, 'utf8');
    const line = log.split('\n').find((each) => each.includes(damaged[0]?.cid ?? 'none') && each.includes('damaged'));
    assert.ok(line?.includes(segment), 'the log names file and chunk');
    await readsRight('west', artifact('rootfs'));
    await site.untilHeld(['west'], { signal });
    assert.deepEqual((await west.verify({}, { signal })).damaged, []);
  });

  it('take the next release by gossip, fetch what is new of it, and keep one before it', async () => {
    const { site, directory } = scene;
    const signal = AbortSignal.timeout(LIMIT_MS);
    const origin = await site.admin(site.publisher);
    const bytes = noise(ROOTFS_BYTES);
    for (const version of [2, 3]) {
      const before = await Promise.all(EDGE.map((name) => bytesFrom(name)));
      bytes.fill(version, version * 1_000_000, version * 1_000_000 + 100_000);
      const rootfs = await file(directory, `rootfs-${version}`, bytes);
      const input = { ...site.materials, channel: site.channel, cmdline: CMDLINE, rootfs };
      const { kernelRelease: _, ...publish } = input;
      published.push(await origin.publish(publish, { signal }));
      for (const name of EDGE) {
        while ((await heldVersion(name)) !== version) await delay(50, undefined, { signal });
        while ((await pinnedVersions(name)).includes(version - 2)) await delay(50, undefined, { signal });
        assert.deepEqual(await pinnedVersions(name), [version - 1, version], name);
      }
      const fetched = (await Promise.all(EDGE.map((name) => bytesFrom(name)))).map(
        (now, at) => now - (before[at] ?? 0),
      );
      assert.ok(
        fetched.every((each) => each > 0 && each < 2_000_000),
        `fetched ${fetched}`,
      );
    }
    // The network is served what is pinned: the release before, and not the one before that.
    await readsRight('south', artifact('rootfs', 2));
    assert.equal(await statusOf('south', artifact('rootfs', 1)), 404);
  });
});

function artifact(role: string, version = 1): ArtifactLine {
  return published[version - 1]?.artifacts.find(({ name }) => name === role) ?? assert.fail(`no ${role} ${version}`);
}

async function file(directory: string, name: string, bytes: Uint8Array): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, bytes);
  return path;
}

const soon = () => ({ signal: AbortSignal.timeout(10_000) });
const sum = (a: number, b: number) => a + b;

/** Chunk bytes that the node got from `peer`, or from all, since it started. */
async function bytesFrom(node: string, peer?: string): Promise<number> {
  const { peers } = await (await scene.site.admin(node)).peers({}, soon());
  return peers.flatMap(({ name, bytesIn }) => (peer === undefined || name === peer ? [bytesIn] : [])).reduce(sum, 0);
}

async function heldVersion(node: string): Promise<number | undefined> {
  const [channel] = (await (await scene.site.admin(node)).status({}, soon())).channels;
  return channel?.held === 1 ? channel.version : undefined;
}

async function pinnedVersions(node: string): Promise<number[]> {
  const { pins } = await (await scene.site.admin(node)).ls({}, soon());
  const versions = pins.flatMap(({ name }) => /^release\/demo\/(\d+)\//.exec(name)?.[1] ?? []);
  return [...new Set(versions.map(Number))].sort((a, b) => a - b);
}

/** Flips one byte of the published rootfs in the node's store; returns the segment file that holds it. */
async function flipOnDisk(node: string, at: number): Promise<string> {
  const wanted = (await readFile(scene.site.materials.rootfs)).subarray(at, at + 64);
  const directory = join(scene.site.lab.node(node).data, 'store', 'segments');
  for (const name of await readdir(directory)) {
    const path = join(directory, name);
    const offset = (await readFile(path)).indexOf(wanted);
    if (offset < 0) continue;
    await using segment = await open(path, 'r+');
    await segment.write(Uint8Array.of((wanted[0] ?? 0) ^ 1), 0, 1, offset);
    return path;
  }
  return assert.fail(`${directory} holds no such bytes`);
}

/** A neighbour reads the artifact from the node's gateway. */
async function readsRight(node: string, { cid, sha256 }: ArtifactLine): Promise<void> {
  const to = join(scene.directory, 'got');
  await curl('-o', to, `${scene.site.lab.node(node).gateways[0]}/artifact/${cid}`);
  assert.equal(
    createHash('sha256')
      .update(await readFile(to))
      .digest('hex'),
    sha256,
  );
}

async function statusOf(node: string, { cid }: ArtifactLine): Promise<number> {
  const url = `${scene.site.lab.node(node).gateways[0]}/artifact/${cid}`;
  return Number((await curl('-I', '-o', '/dev/null', '-w', '%{http_code}', url)).stdout);
}

function curl(...args: string[]) {
  return scene.site.lab.exec('east', ['curl', '-s', '--max-time', '20', ...args]);
}
