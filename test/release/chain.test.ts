import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Metadata, MetaFile, Snapshot, Targets, Timestamp } from '@tufjs/models';
import { readChain, readChannel, sha256 } from '../../src/release/chain.ts';
import { readRepository } from '../../src/release/publisher.ts';
import { signed } from '../../src/release/signing-key.ts';
import { Unauthentic } from '../../src/release/trust-root.ts';
import { TestFleet } from '../fakes/release-fleet.ts';

/** Plain JSON of the signed part of a document, to be changed at will. */
// biome-ignore lint/suspicious/noExplicitAny: the tests change documents into what the types do not allow.
type Signed = any;

describe('the chain of metadata', () => {
  let fleet: TestFleet;
  let documents: Map<string, Buffer>;

  before(async () => {
    fleet = await TestFleet.create();
    await fleet.publish('one');
    documents = new Map();
    for (const entry of await readdir(fleet.repository, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const file = join(entry.parentPath, entry.name);
      documents.set(file.slice(fleet.repository.length + 1), await readFile(file));
    }
    documents.set('timestamp.json', (await readRepository(fleet.repository, 'timestamp.json')) ?? Buffer.alloc(0));
  });
  after(() => fleet[Symbol.asyncDispose]());

  const part = (name: string): Signed => JSON.parse(String(documents.get(name))).signed;

  /** The same state with changed targets or snapshot, all signed by those who may. */
  async function resigned(change: {
    targets?: (part: Signed) => void;
    snapshot?: (part: Signed) => void;
    timestamp?: (part: Signed) => void;
  }) {
    const changed = new Map(documents);
    const [targets, snapshot, timestamp] = [part('1.targets.json'), part('1.snapshot.json'), part('timestamp.json')];
    const online = await fleet.keys.key('online');
    change.targets?.(targets);
    const targetsBytes = signed(new Metadata(Targets.fromJSON(targets)), await fleet.keys.key('targets'));
    changed.set('1.targets.json', targetsBytes);
    snapshot.meta['targets.json'] = {
      version: 1,
      length: targetsBytes.length,
      hashes: { sha256: sha256(targetsBytes) },
    };
    change.snapshot?.(snapshot);
    const snapshotBytes = signed(new Metadata(Snapshot.fromJSON(snapshot)), online);
    changed.set('1.snapshot.json', snapshotBytes);
    const hashes = { sha256: sha256(snapshotBytes) };
    timestamp.meta['snapshot.json'] = new MetaFile({ version: 1, length: snapshotBytes.length, hashes }).toJSON();
    change.timestamp?.(timestamp);
    changed.set('timestamp.json', signed(new Metadata(Timestamp.fromJSON(timestamp)), online));
    return changed;
  }

  it('is read when all of it is signed as it should be', async () => {
    for (const whole of [documents, await resigned({})]) {
      const chain = readChain(whole, fleet.keys.root);
      assert.deepEqual(
        [...chain.channels],
        [
          ['production', '1.production.json'],
          ['testing', undefined],
        ],
      );
      assert.equal(readChannel(chain, whole, 'production', '1.production.json').release.version, 1);
    }
  });

  const role = (targets: Signed) => targets.delegations.roles[0];
  const faults: Record<string, Parameters<typeof resigned>[0]> = {
    'a delegation that does not end the search': { targets: (t) => Object.assign(role(t), { terminating: false }) },
    'a delegation with a pattern': { targets: (t) => Object.assign(role(t), { paths: ['*/release.json'] }) },
    'a second path to a channel': { targets: (t) => role(t).paths.push('testing/release.json') },
    'a delegation by hash': {
      targets: (t) => {
        delete role(t).paths;
        role(t).path_hash_prefixes = ['a'];
      },
    },
    'a channel with a hostile name': {
      targets: (t) => Object.assign(role(t), { name: '../x', paths: ['../x/release.json'] }),
    },
    'targets pinned by version alone': {
      snapshot: (s) => Object.assign(s.meta, { 'targets.json': { version: 1 } }),
    },
    'no targets': { snapshot: (s) => delete s.meta['targets.json'] },
    'a snapshot pinned by version alone': {
      timestamp: (t) => Object.assign(t.meta, { 'snapshot.json': { version: 1 } }),
    },
    'a snapshot that says another version': { snapshot: (s) => Object.assign(s, { version: 2 }) },
  };
  for (const [name, change] of Object.entries(faults)) {
    it(`is refused with ${name}, whoever signed it`, async () => {
      const changed = await resigned(change);
      assert.throws(() => readChain(changed, fleet.keys.root), Unauthentic);
    });
  }

  it('is refused when any byte that a parent pins has changed', async () => {
    const pinned = [...documents.keys()].filter((name) => /^(1\.(snapshot|targets|production)|targets\/)/.test(name));
    assert.equal(pinned.length, 4);
    for (const name of pinned) {
      const changed = new Map(documents);
      changed.set(name, Buffer.concat([documents.get(name) ?? Buffer.alloc(0), Buffer.from('\n')]));
      const read = () => readChannel(readChain(changed, fleet.keys.root), changed, 'production', '1.production.json');
      assert.throws(read, Unauthentic, name);
      changed.delete(name);
      assert.throws(read, Unauthentic, name);
    }
  });

  it('of a channel is refused without a pin on its metadata', async () => {
    const changed = await resigned({ snapshot: (s) => Object.assign(s.meta, { 'production.json': { version: 1 } }) });
    const chain = readChain(changed, fleet.keys.root);
    assert.throws(() => readChannel(chain, changed, 'production', '1.production.json'), Unauthentic);
  });
});
