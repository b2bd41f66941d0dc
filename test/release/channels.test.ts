import assert from 'node:assert/strict';
import { cp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { Metadata, MetadataKind, Root } from '@tufjs/models';
import fc from 'fast-check';
import { type Disk, durableDisk } from '../../src/disk/durable-file.ts';
import { newSigningKey } from '../../src/disk/key-file.ts';
import { AdoptRefused, type Channels, type ReleaseEvents } from '../../src/release/channels.ts';
import { createFleetKeys, type FleetKeys, openFleetKeys } from '../../src/release/fleet-keys.ts';
import { publish, readRepository, renew } from '../../src/release/publisher.ts';
import { signed, signingKey } from '../../src/release/signing-key.ts';
import type { VerifiedRelease } from '../../src/release/trusted-state.ts';
import { FakeNetwork } from '../fakes/metadata-network.ts';
import { artifact, repositoryPeer, TestFleet } from '../fakes/release-fleet.ts';

const signal = AbortSignal.timeout(120_000);
const DAY_MS = 86_400_000;

function collect<E extends keyof ReleaseEvents>(channels: Channels, event: E): ReleaseEvents[E][0][] {
  const facts: ReleaseEvents[E][0][] = [];
  channels.on(event, (...[fact]) => facts.push(fact));
  return facts;
}

function next<E extends keyof ReleaseEvents>(channels: Channels, event: E): Promise<ReleaseEvents[E][0]> {
  const { promise, resolve } = Promise.withResolvers<ReleaseEvents[E][0]>();
  const off = channels.on(event, (...[fact]) => {
    off();
    resolve(fact);
  });
  return promise;
}

/** Documents of `repository`, with some answers of its own. */
function lying(repository: string, lies: Record<string, Uint8Array | undefined>) {
  const honest = repositoryPeer(repository);
  return async (name: string) => {
    const document = name.slice('release/'.length);
    return document in lies ? lies[document] : honest(name);
  };
}

describe('a release', () => {
  it('is passed on by gossip when it is newer and signed, and goes no further when it is known, old, or somebody’s own', async () => {
    await using fleet = await TestFleet.create();
    const node = new FakeNetwork().node('a');
    await using a = await fleet.node(node);
    await fleet.publish('one');
    const old = (await readRepository(fleet.repository, 'timestamp.json')) ?? Buffer.alloc(0);
    assert.deepEqual(node.gossip(old, 'b'), ['accept']);
    await a.adopt(fleet.repository, { signal });
    assert.deepEqual(node.gossip(old, 'b'), ['ignore']);
    await fleet.publish('two');
    const newer = (await readRepository(fleet.repository, 'timestamp.json')) ?? Buffer.alloc(0);
    const { signed: said } = JSON.parse(newer.toString());
    const unsigned = Buffer.from(JSON.stringify({ signed: said, signatures: [] }));
    const worth = [unsigned, newer, Buffer.from('no timestamp'), Buffer.alloc(100_000, ' ')];
    assert.deepEqual(
      worth.map((bytes) => node.gossip(bytes, 'b')[0]),
      ['ignore', 'accept', 'reject', 'reject'],
    );
    await a.adopt(fleet.repository, { signal });
    assert.deepEqual(node.gossip(old, 'b'), ['ignore']);
  });

  it('published on one node reaches the others, by gossip and by connecting, and they pass it on', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((id) => fleet.node(network.node(id))));
    assert.ok(a && b && c);
    network.link('a', 'b');
    await fleet.publish('one');
    const arrived = next(b, 'release:new');
    await a.adopt(fleet.repository, { signal });
    const { release, digest, stale } = await arrived;
    assert.equal(release.arch.x86_64.kernel?.name, 'kernel-one.img');
    assert.equal(stale, false);
    assert.equal(a.current('production')?.digest, digest);

    // c never meets the publisher.
    const late = next(c, 'release:new');
    network.link('b', 'c');
    assert.equal((await late).digest, digest);
    assert.deepEqual(c.list(), [c.current('production')]);
  });

  it('is there after a restart, with nobody to ask', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    const a = await fleet.node(network.node('a'));
    await fleet.publish('one');
    await a.adopt(fleet.repository, { signal });
    const before = a.current('production');
    await a[Symbol.asyncDispose]();
    const again = await fleet.node(network.node('a'));
    assert.deepEqual(again.current('production'), before);
    const report = await again.refresh({ signal });
    assert.deepEqual(report, { asked: 0, answered: 0, version: 1, updated: false });
  });

  it('that a node has had complete is remembered beside newer ones, over restarts, until it has another', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    let node = await fleet.node(network.node('a'));
    const restart = async () => {
      await node[Symbol.asyncDispose]();
      node = await fleet.node(network.node('a'));
    };
    const publishNext = async (words: string) => {
      await fleet.publish(words);
      await node.adopt(fleet.repository, { signal });
      return node.current('production') as VerifiedRelease;
    };
    const one = await publishNext('one');
    assert.equal(node.held('production'), undefined);
    await node.hold(one);
    await publishNext('two');
    const three = await publishNext('three');
    await restart();
    assert.equal(node.current('production')?.version, 3);
    assert.deepEqual(node.held('production'), { ...one, expires: node.held('production')?.expires, stale: true });
    await node.hold(one);
    assert.equal(node.held('production')?.version, 1);
    await node.hold(three);
    await restart();
    assert.deepEqual(node.held('production'), node.current('production'));
  });

  it('follows the roots that the fleet rotates to, however many a node has missed', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    const a = await fleet.node(network.node('a'));
    await fleet.publish('one');
    await a.adopt(fleet.repository, { signal });
    // The owner replaces the online key twice; only who walks all roots knows the last.
    for (const version of [2, 3]) {
      const root = Metadata.fromJSON(MetadataKind.Root, JSON.parse(fleet.keys.root.toString()));
      const online = newSigningKey();
      const roles = { ...root.signed.roles };
      const { key } = signingKey(online);
      for (const role of ['snapshot', 'timestamp']) roles[role]?.keyIDs.splice(0, 1, key.keyID);
      const keys = { ...root.signed.keys, [key.keyID]: key };
      const { expires, specVersion, unrecognizedFields } = root.signed;
      const next = new Root({
        version,
        expires,
        specVersion,
        unrecognizedFields,
        roles,
        keys,
        consistentSnapshot: true,
      });
      const bytes = signed(new Metadata(next), await fleet.keys.key('root'));
      await writeFile(join(fleet.repository, `${version}.root.json`), bytes);
      await writeFile(join(fleet.keys.directory, 'online.key'), online.export({ format: 'pem', type: 'pkcs8' }));
    }
    const stranger = (await a.refresh({ signal })).version;
    assert.equal(stranger, 1);
    // The publisher checks its repository from the newest root, as its keys directory has it.
    await cp(join(fleet.repository, '3.root.json'), join(fleet.keys.directory, 'root.json'));
    const rotated = await openFleetKeys(fleet.keys.directory);
    await publish({ keys: rotated, directory: fleet.repository, channel: 'production', rootfs: artifact('two') });
    network.liar('repository', repositoryPeer(fleet.repository));
    network.linkQuietly('a', 'repository');
    assert.equal((await a.refresh({ signal })).version, 2);
    assert.equal(a.current('production')?.version, 2);
    // And what it learned it serves: a newcomer with the first root catches up from it alone.
    const b = await fleet.node(network.node('b'));
    network.linkQuietly('b', 'a');
    await b.refresh({ signal });
    assert.equal(b.current('production')?.version, 2);
  });
});

describe('against freezing', () => {
  it('one fresh peer among many stale ones is enough', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const old = await fleet.snapshot('old');
    await fleet.publish('two');
    for (let n = 0; n < 7; n += 1) network.liar(`stale${n}`, repositoryPeer(old));
    network.liar('fresh', repositoryPeer(fleet.repository));
    const a = await fleet.node(network.node('a'));
    const refused = collect(a, 'release:refuse');
    network.linkQuietly('a', ...network.nodes.keys());
    const report = await a.refresh({ signal });
    assert.equal(report.asked, 8);
    assert.equal(a.current('production')?.version, 2);
    assert.deepEqual(refused, []); // To be behind is no lie.
  });

  it('every peer has its turn, so that a crowd of stale ones only delays', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const old = await fleet.snapshot('old');
    await fleet.publish('two');
    for (let n = 0; n < 20; n += 1) network.liar(`stale${n}`, repositoryPeer(old));
    network.liar('fresh', repositoryPeer(fleet.repository));
    const a = await fleet.node(network.node('a'), { askPeers: 3 });
    network.linkQuietly('a', ...network.nodes.keys());
    for (let round = 0; round < 7; round += 1) await a.refresh({ signal });
    assert.equal(a.current('production')?.version, 2);
    for (const [id, peer] of network.nodes) {
      const times = peer.asked.filter((name) => name === 'release/timestamp.json').length;
      assert.equal(times, id === 'a' ? 0 : 1, id);
    }
  });

  it('peers that promise a version and hold it back, hang or drop out cost their own answer', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const timestamp = await readRepository(fleet.repository, 'timestamp.json');
    const hang = () => new Promise<never>(() => undefined);
    network.liar('withholds', async (name) => (name.endsWith('timestamp.json') ? timestamp : undefined));
    network.liar('stalls', async (name) => (name.endsWith('timestamp.json') ? timestamp : hang()));
    network.liar('hangs', hang);
    network.liar('fails', () => Promise.reject(new Error('connection reset')));
    network.liar('honest', repositoryPeer(fleet.repository));
    const a = await fleet.node(network.node('a'), { askMs: 300, staggerMs: 20 });
    network.linkQuietly('a', ...network.nodes.keys());
    const held = setInterval(() => undefined, 1000); // Timeouts alone do not keep a test alive.
    const report = await a.refresh({ signal }).finally(() => clearInterval(held));
    assert.equal(report.answered, 3);
    assert.equal(a.current('production')?.version, 1);
  });

  it('a peer that holds back one followed channel does not move the node to half a state', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const a = await fleet.node(network.node('a'));
    const fresh = await fleet.node(network.node('b'));
    await a.adopt(fleet.repository, { signal });
    await fleet.publish('two');
    network.liar('withholds', lying(fleet.repository, { '2.production.json': undefined }));
    for (const [id, node] of Object.entries({ a, b: fresh })) {
      network.linkQuietly(id, 'withholds');
      const { updated } = await node.refresh({ signal });
      assert.equal(updated, false);
    }
    network.liar('honest', repositoryPeer(fleet.repository));
    for (const [id, node] of Object.entries({ a, b: fresh })) {
      network.linkQuietly(id, 'honest');
      await node.refresh({ signal });
      assert.equal(node.current('production')?.version, 2);
    }
  });

  it('askPeers below three is refused', async () => {
    await using fleet = await TestFleet.create();
    await assert.rejects(fleet.node(new FakeNetwork().node('a'), { askPeers: 2 }), /at least 3/);
  });
});

describe('against rolling back', () => {
  it('an older state is not taken, from peers, gossip or the publisher', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const old = await fleet.snapshot('old');
    await fleet.publish('two');
    const a = await fleet.node(network.node('a'));
    await a.adopt(fleet.repository, { signal });
    network.liar('stale', repositoryPeer(old));
    network.linkQuietly('a', 'stale');
    await a.refresh({ signal });
    network.nodes.get('a')?.gossip((await readRepository(old, 'timestamp.json')) ?? Buffer.alloc(0), 'stale');
    await assert.rejects(a.adopt(old, { signal }), AdoptRefused);
    assert.equal(a.current('production')?.version, 2);
  });

  for (const [damage, how] of Object.entries({
    'a torn write': (file: string) => truncate(file, 700),
    'an emptied file': (file: string) => truncate(file, 0),
    'a flipped byte': async (file: string) => {
      const bytes = await readFile(file);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
      await writeFile(file, bytes);
    },
    'a lost file': (file: string) => rm(file),
  })) {
    for (const copy of ['state', 'state.copy']) {
      it(`${damage} of ${copy} does not take a restarted node back`, async () => {
        await using fleet = await TestFleet.create();
        const network = new FakeNetwork();
        await fleet.publish('one');
        const old = await fleet.snapshot('old');
        const a = await fleet.node(network.node('a'));
        await a.adopt(fleet.repository, { signal });
        await fleet.publish('two');
        await a.adopt(fleet.repository, { signal });
        await a[Symbol.asyncDispose]();
        await how(join(fleet.directory, 'a', copy));
        network.liar('stale', repositoryPeer(old));
        const again = await fleet.node(network.node('a'));
        network.linkQuietly('a', 'stale');
        await again.refresh({ signal });
        assert.equal(again.current('production')?.version, 2);
        const copies = ['state', 'state.copy'].map((name) => readFile(join(fleet.directory, 'a', name)));
        const [first, second] = await Promise.all(copies);
        assert.ok(first && second?.equals(first), 'both copies are whole again');
      });
    }
  }

  it('a channel key that goes back, or uses a version twice, is refused however new the metadata', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const [back, twice] = await Promise.all([fleet.snapshot('back'), fleet.snapshot('twice')]);
    await fleet.publish('five', { version: 5 });
    const a = await fleet.node(network.node('a'));
    await a.adopt(fleet.repository, { signal });
    const { keys } = fleet;
    const request = { keys, channel: 'production', rootfs: artifact('another') };
    for (const version of [2, 3]) await publish({ ...request, directory: back, version });
    await publish({ ...request, directory: twice, version: 5 });
    await renew({ keys, directory: twice });
    network.liar('back', repositoryPeer(back));
    network.liar('twice', repositoryPeer(twice));
    network.linkQuietly('a', 'back', 'twice');
    const refused = collect(a, 'release:refuse');
    await a.refresh({ signal });
    const told = refused.map(({ peer, error }) => `${peer}: ${error.message}`).toSorted();
    assert.match(told[0] ?? '', /back: .*goes back from version 5 to 3/);
    assert.match(told[1] ?? '', /twice: .*uses version 5 for a second release/);
    assert.equal(a.current('production')?.version, 5);
  });

  it('a full disk leaves the node where it is, and whole', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    let full = false;
    const replace: Disk['replace'] = (file, bytes) =>
      full ? Promise.reject(new Error('ENOSPC')) : durableDisk.replace(file, bytes);
    const a = await fleet.node(network.node('a'), { disk: { ...durableDisk, replace } });
    await fleet.publish('one');
    await a.adopt(fleet.repository, { signal });
    await fleet.publish('two');
    full = true;
    await assert.rejects(a.adopt(fleet.repository, { signal }), /ENOSPC/);
    network.liar('honest', repositoryPeer(fleet.repository));
    network.linkQuietly('a', 'honest');
    assert.equal((await a.refresh({ signal })).updated, false);
    assert.equal(a.current('production')?.version, 1);
    full = false;
    assert.equal((await a.refresh({ signal })).version, 2);
  });

  it('an online key that signs an older snapshot as a newer one is refused and named', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const old = await fleet.snapshot('old');
    await fleet.publish('two');
    const a = await fleet.node(network.node('a'));
    await a.adopt(fleet.repository, { signal });
    for (let n = 0; n < 3; n += 1) await renew({ keys: fleet.keys, directory: old });
    network.liar('thief', repositoryPeer(old));
    network.linkQuietly('a', 'thief');
    const refused = next(a, 'release:refuse');
    await a.refresh({ signal });
    assert.equal((await refused).reason, 'rollback');
    assert.equal(a.current('production')?.version, 2);
  });
});

describe('against forgery', () => {
  /** What the second publisher signs with keys of its own, in the place of the fleet's `which`. */
  async function forged(fleet: TestFleet, which: (name: string) => boolean): Promise<string> {
    await fleet.publish('one');
    const copy = await fleet.snapshot('forged');
    const theirs = await createFleetKeys(join(fleet.directory, 'thief'), {
      fleet: 'test',
      channels: ['production', 'testing'],
    });
    const mixed = join(fleet.directory, 'mixed');
    await cp(fleet.keys.directory, mixed, { recursive: true });
    for (const name of await readdir(mixed)) {
      if (which(name)) await cp(join(theirs.directory, name), join(mixed, name));
    }
    const keys = await openFleetKeys(mixed);
    await publish({ keys, directory: copy, channel: 'production', rootfs: artifact('evil') });
    return copy;
  }

  for (const [name, which] of Object.entries({
    'a stolen online key, but no channel key': (file: string) => file.startsWith('channel-') || file === 'targets.key',
    'no key of the fleet': (file: string) => file.endsWith('.key'),
    'all keys but the targets key, and a channel of its own': (file: string) => /^(channel-|targets)/.test(file),
    'all keys but the online key': (file: string) => file === 'online.key',
    'all keys but the ticket key': (file: string) => file === 'ticket.key',
  })) {
    it(`what someone publishes with ${name} is refused, and who brought it is named`, async () => {
      await using fleet = await TestFleet.create();
      const network = new FakeNetwork();
      const copy = await forged(fleet, which);
      const a = await fleet.node(network.node('a'));
      await a.adopt(fleet.repository, { signal });
      network.liar('thief', repositoryPeer(copy));
      network.linkQuietly('a', 'thief');
      const refused = collect(a, 'release:refuse');
      await a.refresh({ signal });
      assert.deepEqual(
        refused.map(({ peer, reason }) => ({ peer, reason })),
        [{ peer: 'thief', reason: 'invalid' }],
      );
      assert.equal(a.current('production')?.version, 1);
      assert.equal(network.nodes.get('a')?.announced.length, 1); // Only its own.
      const stored = await readFile(join(fleet.directory, 'a', 'state'), 'utf8');
      const timestamp = await readRepository(copy, 'timestamp.json');
      assert.ok(!stored.includes(String(timestamp?.toString('base64'))));
    });
  }

  it('the testing key cannot sign production', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const copy = await fleet.snapshot('forged');
    // Whoever holds the testing, online and ticket keys: the delegations stay as they are, the release is signed wrongly.
    const { keys } = fleet;
    let asked = 0;
    const key: FleetKeys['key'] = (name) => {
      const production = typeof name === 'object' && name.channel === 'production';
      return keys.key(production && asked++ > 0 ? { channel: 'testing' } : name);
    };
    await publish({ keys: { ...keys, key }, directory: copy, channel: 'production', rootfs: artifact('evil') });
    const a = await fleet.node(network.node('a'));
    await a.adopt(fleet.repository, { signal });
    network.liar('thief', repositoryPeer(copy));
    network.linkQuietly('a', 'thief');
    const refused = collect(a, 'release:refuse');
    await a.refresh({ signal });
    assert.deepEqual(
      refused.map(({ peer, document, reason }) => ({ peer, document, reason })),
      [{ peer: 'thief', document: '2.production.json', reason: 'invalid' }],
    );
    assert.equal(a.current('production')?.version, 1);
  });

  it('the metadata of one channel in the place of another, or a document of another version, is refused', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    await fleet.publish('unstable', { channel: 'testing' });
    const testing = await readFile(join(fleet.repository, '1.testing.json'));
    const targets = await readdir(join(fleet.repository, 'targets', 'testing'));
    const swapped = await readFile(join(fleet.repository, 'targets', 'testing', targets[0] ?? ''));
    const production = await readdir(join(fleet.repository, 'targets', 'production'));
    network.liar('role', lying(fleet.repository, { '1.production.json': testing }));
    network.liar('target', lying(fleet.repository, { [`targets/production/${production[0]}`]: swapped }));
    network.liar(
      'snapshot',
      lying(fleet.repository, { '2.snapshot.json': await readFile(join(fleet.repository, '1.snapshot.json')) }),
    );
    const a = await fleet.node(network.node('a'));
    const refused = collect(a, 'release:refuse');
    for (const peer of ['role', 'target', 'snapshot']) {
      network.nodes.get('a')?.links.clear();
      network.linkQuietly('a', peer);
      await a.refresh({ signal });
      assert.equal(a.current('production'), undefined, peer);
    }
    assert.deepEqual(
      refused.map(({ peer, document }) => `${peer} ${document.replace(/[0-9a-f]{64}/, 'sha256')}`),
      ['role 1.production.json', 'target targets/production/sha256.release.json', 'snapshot 2.snapshot.json'],
    );
    // The same liars beside one honest peer only cost themselves.
    network.liar('honest', repositoryPeer(fleet.repository));
    network.linkQuietly('a', 'role', 'target', 'snapshot', 'honest');
    await a.refresh({ signal });
    assert.equal(a.current('production')?.version, 1);
    assert.equal(a.current('testing')?.version, 1);
  });
});

describe('against nonsense', () => {
  it('documents beyond their limit are refused by size', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const huge = Buffer.alloc(1024 * 1024, 0x20);
    network.liar('timestamp', lying(fleet.repository, { 'timestamp.json': huge }));
    network.liar('snapshot', lying(fleet.repository, { '1.snapshot.json': huge }));
    network.liar('root', lying(fleet.repository, { '2.root.json': huge }));
    network.liar('targets', lying(fleet.repository, { '1.production.json': huge }));
    const a = await fleet.node(network.node('a'));
    const refused = collect(a, 'release:refuse');
    network.linkQuietly('a', 'timestamp', 'snapshot', 'root', 'targets');
    await a.refresh({ signal });
    assert.deepEqual(
      new Set(refused.map(({ peer, reason }) => `${peer} ${reason}`)),
      new Set(['timestamp oversize', 'snapshot oversize', 'root oversize', 'targets oversize']),
    );
    assert.equal(a.current('production'), undefined);
  });

  it('garbage from peers and gossip neither stops a node nor moves it', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const a = await fleet.node(network.node('a'));
    await a.adopt(fleet.repository, { signal });
    const before = a.current('production');
    await fleet.publish('two');
    const names = ['timestamp.json', '2.root.json', '2.snapshot.json', '2.production.json'];
    const real = new Map<string, Buffer>();
    for (const name of names) real.set(name, (await readRepository(fleet.repository, name)) ?? Buffer.from('{}'));
    const lie = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((bytes) => () => bytes),
      fc.json().map((text) => () => Buffer.from(text)),
      fc.tuple(fc.nat(), fc.integer({ min: 1, max: 255 })).map(([at, flip]) => (bytes: Buffer) => {
        const damaged = Buffer.from(bytes);
        damaged[at % damaged.length] = (damaged[at % damaged.length] ?? 0) ^ flip;
        return damaged;
      }),
      fc.nat(2000).map((end) => (bytes: Buffer) => bytes.subarray(0, end % bytes.length)),
    );
    let current: Record<string, Uint8Array> = {};
    network.liar('liar', (name) => lying(fleet.repository, current)(name));
    network.linkQuietly('a', 'liar');
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), lie, async (name, change) => {
        const bytes = real.get(name) ?? Buffer.from('{}');
        const lied = change(bytes);
        // A flip in white space or in an unsigned field may leave a document as true as it was.
        fc.pre(!bytes.equals(lied));
        current = { [name]: lied };
        await a.refresh({ signal });
        const after = a.current('production');
        if (after?.version === 2) fc.pre(false);
        assert.deepEqual(after, before);
      }),
      { numRuns: 60 },
    );
    for (let n = 0; n < 100_000; n += 1) {
      // A seeded walk over the real timestamp: flips, cuts and doubled parts.
      const bytes = Buffer.from(real.get('timestamp.json') ?? Buffer.alloc(1));
      bytes[(n * 7919) % bytes.length] = (n * 31) & 0xff;
      const damaged = n % 3 === 0 ? bytes.subarray(0, (n * 104_729) % bytes.length) : bytes;
      network.nodes.get('a')?.gossip(n % 5 === 0 ? Buffer.concat([damaged, bytes]) : damaged, `liar${n % 300}`);
      if (n % 10_000 === 0) await new Promise(setImmediate);
    }
    network.nodes.get('a')?.gossip(Buffer.from('['.repeat(16_000)), 'deep');
    network.nodes.get('a')?.gossip(Buffer.alloc(1024 * 1024, 0x5b), 'long');
    current = {};
    await a.refresh({ signal });
    assert.equal(a.current('production')?.version, 2);
  });

  it('a forged announcement makes no traffic but to whoever sent it', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const a = await fleet.node(network.node('a'));
    await a.adopt(fleet.repository, { signal });
    for (const id of ['liar', 'b', 'c', 'd']) network.liar(id, repositoryPeer(fleet.repository));
    network.linkQuietly('a', 'liar', 'b', 'c', 'd');
    const forged = JSON.parse(String(await readRepository(fleet.repository, 'timestamp.json')));
    forged.signed.version = 999;
    const refused = next(a, 'release:refuse');
    network.nodes.get('a')?.gossip(Buffer.from(JSON.stringify(forged)), 'liar');
    const { peer, reason } = await refused;
    assert.deepEqual({ peer, reason }, { peer: 'liar', reason: 'invalid' });
    await a[Symbol.asyncDispose]();
    const asked = ['b', 'c', 'd'].flatMap((id) => network.nodes.get(id)?.asked ?? []);
    assert.deepEqual(asked, []);
    assert.deepEqual(network.nodes.get('liar')?.asked, ['release/2.root.json']);
  });

  it('a node is asked for names of its own only', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    await fleet.publish('one');
    const a = await fleet.node(network.node('a'));
    await a.adopt(fleet.repository, { signal });
    const b = network.node('b');
    network.linkQuietly('b', 'a');
    const ask = (name: string) => b.ask('a', `release/${name}`, { signal, maxBytes: 1e6 });
    for (const name of ['../state', 'state', '/etc/passwd', '', '__proto__', '2.root.json', '1.testing.json']) {
      assert.equal(await ask(name), undefined, name);
    }
    assert.ok(await ask('1.root.json'));
    assert.ok(await ask('1.production.json'));
  });
});

describe('a fork', () => {
  it('raises an alarm on every node, keeps both sides and changes nothing', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    const [a, b] = await Promise.all(['a', 'b'].map((id) => fleet.node(network.node(id))));
    assert.ok(a && b);
    await fleet.publish('one');
    const other = await fleet.snapshot('other');
    await fleet.publish('two');
    await a.adopt(fleet.repository, { signal });
    await b.adopt(fleet.repository, { signal });
    const before = a.current('production');
    await publish({ keys: fleet.keys, directory: other, channel: 'production', rootfs: artifact('the other two') });

    const alarms = Promise.all([next(a, 'release:fork'), next(b, 'release:fork')]);
    network.liar('twofaced', repositoryPeer(other));
    network.linkQuietly('a', 'twofaced', 'b');
    await a.refresh({ signal });
    const [first, second] = await alarms; // b hears of it from a alone.
    assert.equal(first.version, 2);
    assert.equal(first.from, 'twofaced');
    assert.equal(second.from, 'a');
    assert.ok(!first.ours.equals(first.theirs));
    assert.deepEqual(a.current('production'), before);
    assert.equal((await readdir(join(fleet.directory, 'a', 'forks'))).length, 1);

    const again = collect(a, 'release:fork');
    await a.refresh({ signal });
    assert.deepEqual(again, []);
  });

  it('is not seen in white space or in a signature that does not verify', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    const a = await fleet.node(network.node('a'));
    await fleet.publish('one');
    await a.adopt(fleet.repository, { signal });
    const bytes = String(await readRepository(fleet.repository, 'timestamp.json'));
    const changed = JSON.parse(bytes);
    changed.signed.expires = '2099-01-01T00:00:00Z';
    network.liar('spaces', lying(fleet.repository, { 'timestamp.json': Buffer.from(`${bytes}\n`) }));
    network.liar('forger', lying(fleet.repository, { 'timestamp.json': Buffer.from(JSON.stringify(changed)) }));
    network.linkQuietly('a', 'spaces', 'forger');
    const forks = collect(a, 'release:fork');
    const refused = collect(a, 'release:refuse');
    await a.refresh({ signal });
    assert.deepEqual(forks, []);
    assert.deepEqual(
      refused.map(({ peer }) => peer),
      ['forger'],
    );
  });
});

describe('when metadata expires', () => {
  it('what runs goes on and is STALE, across a restart, until the fleet signs again', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    let now = Date.now();
    const clock = () => now;
    const a = await fleet.node(network.node('a'), { clock });
    await fleet.publish('one');
    await a.adopt(fleet.repository, { signal });
    const stale = collect(a, 'release:stale');
    now += 29 * DAY_MS;
    await a.refresh({ signal });
    assert.equal(a.current('production')?.stale, false);
    now += 2 * DAY_MS;
    assert.equal(a.current('production')?.stale, true);
    await a.refresh({ signal });
    await a.refresh({ signal });
    assert.equal(stale.length, 1);
    await a[Symbol.asyncDispose]();

    const again = await fleet.node(network.node('a'), { clock });
    assert.equal(again.current('production')?.version, 1);
    assert.equal(again.current('production')?.stale, true);
    await renew({ keys: fleet.keys, directory: fleet.repository }, { clock });
    await again.adopt(fleet.repository, { signal });
    assert.equal(again.current('production')?.stale, false);
  });

  it('nothing new is installed from it', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    let now = Date.now();
    const a = await fleet.node(network.node('a'), { clock: () => now });
    const fresh = await fleet.node(network.node('b'), { clock: () => now });
    await fleet.publish('one');
    await a.adopt(fleet.repository, { signal });
    await fleet.publish('two');
    now += 31 * DAY_MS;
    network.liar('late', repositoryPeer(fleet.repository));
    network.linkQuietly('a', 'late');
    network.linkQuietly('b', 'late');
    const refused = collect(a, 'release:refuse');
    await a.refresh({ signal });
    await fresh.refresh({ signal });
    assert.equal(a.current('production')?.version, 1);
    assert.equal(a.current('production')?.stale, true);
    assert.equal(fresh.current('production'), undefined);
    assert.deepEqual(refused, []); // To be late is no lie.
  });

  it('a channel that its owners left alone does not hold the others up', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    let now = Date.now();
    const clock = () => now;
    const a = await fleet.node(network.node('a'), { clock });
    await fleet.publish('one', { channel: 'testing' });
    await fleet.publish('one');
    await a.adopt(fleet.repository, { signal });
    await fleet.publish('two', { channel: 'testing', expiresInDays: { channel: 5 } });
    now += 6 * DAY_MS;
    await fleet.publish('two', {}, { clock });
    await a.adopt(fleet.repository, { signal });
    assert.equal(a.current('production')?.version, 2);
    assert.equal(a.current('testing')?.version, 1);
    assert.equal(a.current('testing')?.stale, true);
    await a[Symbol.asyncDispose]();
    const again = await fleet.node(network.node('a'), { clock });
    assert.equal(again.current('testing')?.version, 1);
    // It passes all of it on: a newcomer decides for itself.
    const b = await fleet.node(network.node('b'), { clock, follow: ['production', 'testing'] });
    network.linkQuietly('b', 'a');
    await b.refresh({ signal });
    assert.equal(b.current('production')?.version, 2);
    assert.equal(b.current('testing'), undefined);
  });

  it('a clock that was set back does not bring old metadata to life', async () => {
    await using fleet = await TestFleet.create();
    const network = new FakeNetwork();
    let now = Date.now();
    const clock = () => now;
    await fleet.publish('one', { channel: 'testing', expiresInDays: { channel: 5 } });
    now += 10 * DAY_MS;
    await fleet.publish('one', {}, { clock });
    const a = await fleet.node(network.node('a'), { clock });
    await a.adopt(fleet.repository, { signal });
    await a[Symbol.asyncDispose]();
    now = 0;
    const again = await fleet.node(network.node('a'), { clock });
    assert.equal(again.current('production')?.stale, false);
    await renew({ keys: fleet.keys, directory: fleet.repository }, { clock: () => Date.now() + 10 * DAY_MS });
    await again.adopt(fleet.repository, { signal });
    assert.equal(again.current('testing'), undefined, 'the floor is the day on which production was issued');
  });
});

describe('a node of another fleet', () => {
  it('takes nothing, and its store is not mixed with ours', async () => {
    await using ours = await TestFleet.create();
    await using theirs = await TestFleet.create();
    const network = new FakeNetwork();
    await ours.publish('one');
    const a = await theirs.node(network.node('a'));
    await assert.rejects(a.adopt(ours.repository, { signal }), AdoptRefused);
    await theirs.publish('one');
    await a.adopt(theirs.repository, { signal });
    await a[Symbol.asyncDispose]();
    // The operator gives the node another root: what the old fleet signed means nothing under it.
    const moved = await ours.node(network.node('a'), { directory: join(theirs.directory, 'a') });
    assert.equal(moved.current('production'), undefined);
    await moved.adopt(ours.repository, { signal });
    assert.equal(moved.current('production')?.version, 1);
  });
});
