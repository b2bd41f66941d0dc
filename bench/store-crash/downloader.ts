/**
 * A process that is killed: downloads the artifact ROOT from the swarm that listens at ADDRESS into the store
 * DIRECTORY, and tells how far it is. Ends with its standard input, so that it does not outlive its parent.
 */
import { CID } from 'multiformats/cid';
import { cached } from '../../src/content/cached.ts';
import { readManifest } from '../../src/content/manifest.ts';
import { openNode } from './pair.ts';
import { ToldStore } from './told-store.ts';
import { say } from './word.ts';

const [directory, root, address] = process.argv.slice(2);
if (!directory || !root || !address) throw new Error('usage: downloader.ts DIRECTORY ROOT ADDRESS');
process.stdin.on('close', () => process.exit(1)).resume();
const { signal } = new AbortController();
const store = await ToldStore.open(directory);
const swarm = await openNode('downloader', store, { seed: address });
await new Promise<void>((resolve) => swarm.documents.onConnect(() => resolve()));
const { set } = await readManifest(CID.parse(root), cached(store, swarm.blocks), { signal });
await swarm.download(set, { priority: 'foreground', signal });
await store[Symbol.asyncDispose]();
say({ said: 'done', root });
// The swarm's goodbye is not what is tested, and would take a second.
process.exit(0);
