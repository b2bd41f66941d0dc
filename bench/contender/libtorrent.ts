import { randomUUID } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { command } from '../../src/host/command.ts';
import type { Contender } from '../site/contender.ts';
import type { Place } from '../site/scene.ts';
import { missingUnless, Program } from './program.ts';
import { ProgramRace } from './program-race.ts';
import { writeTorrent } from './torrent.ts';

const CLIENT = fileURLToPath(new URL('libtorrent-client.py', import.meta.url));
/** Debian's, since the module is a Debian package; another python3 may come first in the path. */
const PYTHON = '/usr/bin/python3';
const PORT = 6881;
const START_MS = 60_000;
const PIECE_BYTES = 256 * 1024;

type Mode = 'default' | 'tuned' | 'super-seed';

/** As it comes, but for discovery (every client is told all others), and over TCP alone. */
export const libtorrent = contender('libtorrent', 'default');
/** All upload slots open, deep queues. */
export const libtorrentTuned = contender('libtorrent-tuned', 'tuned');
/** Tuned, and the origin super-seeds. */
export const libtorrentSuper = contender('libtorrent-super', 'super-seed');

/** libtorrent (rasterbar) 2.0 through its Python binding, each client a small program of ours. */
function contender(name: string, mode: Mode): Contender {
  return {
    name,

    async missing() {
      const missing = await missingUnless('python3-libtorrent', [PYTHON, '-c', 'import libtorrent']);
      return missing && `Debian package ${missing}`;
    },

    async version() {
      const { stdout } = await command([PYTHON, '-c', 'import libtorrent; print(libtorrent.__version__)']);
      return `libtorrent ${stdout.trim()}`;
    },

    async prepare(scene, payload, { signal }) {
      using started = new DisposableStack();
      const limit = AbortSignal.any([signal, AbortSignal.timeout(START_MS)]);
      const torrent = join(await mkdtemp(join(scene.origin.directory, 'torrent-')), 'payload.torrent');
      await writeTorrent(torrent, { file: payload.path, pieceBytes: PIECE_BYTES });
      const client = (place: Place, directory: string, peers: readonly Place[], seed: boolean) => {
        const dials = peers.map(({ address }) => [address, PORT]);
        const plan = { torrent, directory, listen: `${place.address}:${PORT}`, peers: dials, seed, mode };
        const argv = [PYTHON, CLIENT, JSON.stringify(plan)];
        return new Program(argv, { namespace: place.namespace });
      };
      const origin = started.use(client(scene.origin, dirname(payload.path), [], true));
      const directories: string[] = [];
      for (const node of scene.nodes) directories.push(await mkdtemp(join(node.directory, 'libtorrent-')));
      const start = (node: number) => {
        const [place, directory] = [scene.nodes[node], directories[node]];
        if (place === undefined || directory === undefined) throw new RangeError(`the scene has no node ${node}`);
        // Both of a pair dial: who is dialled before it has its torrent refuses. libtorrent drops the second connection.
        const others = scene.nodes.filter((each) => each !== place);
        return client(place, directory, [scene.origin, ...others], false);
      };
      const receivers = scene.nodes.map((_, node) => started.use(start(node)));
      for (const each of [origin, ...receivers]) await each.line(/^ready$/, { signal: limit });
      const payloadSent = async () => {
        const question = randomUUID();
        origin.say(question);
        const answer = await origin.line(new RegExp(`^${question} `), { signal: AbortSignal.timeout(START_MS) });
        return Number(answer.split(' ')[1]);
      };
      const again = (node: number) => start(node);
      const copies = directories.map((directory) => join(directory, basename(payload.path)));
      const complete = /^complete$/;
      return new ProgramRace({ origin, receivers, copies, complete, payloadSent, again, aside: [started.move()] });
    },
  };
}
