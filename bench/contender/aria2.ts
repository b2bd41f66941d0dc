import { chmod, mkdtemp, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { command } from '../../src/host/command.ts';
import type { Contender } from '../site/contender.ts';
import type { Place } from '../site/scene.ts';
import { missingUnless, Program } from './program.ts';
import { ProgramRace } from './program-race.ts';
import { writeTorrent } from './torrent.ts';

const TRACKER = fileURLToPath(new URL('tracker.ts', import.meta.url));
const TRACKER_PORT = 6969;
/** Milliseconds that the tracker, and then the seed's check of its file, may take. */
const START_MS = 60_000;
/** 256 KiB and 1 MiB gave the same time here; with fewer pieces than that small payloads would suffer. */
const PIECE_BYTES = 256 * 1024;

/**
 * What was found best for it: peers by a tracker alone, no limit on peers, no preallocation, more of them tried while
 * it is slow. Its upload slots cannot be set.
 */
const FLAGS = [
  ...['--enable-dht=false', '--enable-dht6=false', '--bt-enable-lpd=false', '--enable-peer-exchange=true'],
  ...['--bt-max-peers=0', '--bt-request-peer-speed-limit=1000M', '--seed-ratio=0', '--listen-port=6881'],
  ...['--file-allocation=none', '--disk-cache=64M', '--bt-min-crypto-level=plain', '--bt-require-crypto=false'],
  ...['--no-conf=true', '--console-log-level=error', '--summary-interval=0', '--show-console-readout=false'],
];

/** aria2 as a BitTorrent client. */
export const aria2: Contender = {
  name: 'aria2',

  async missing() {
    const missing = await missingUnless('aria2', ['aria2c', '--version']);
    return missing && `Debian package ${missing}`;
  },

  async version() {
    const { stdout } = await command(['aria2c', '--version']);
    return stdout.split('\n')[0] ?? '';
  },

  async prepare(scene, payload, { signal }) {
    using started = new DisposableStack();
    const limit = AbortSignal.any([signal, AbortSignal.timeout(START_MS)]);
    const { origin: seed } = scene;
    const shared = await mkdtemp(join(seed.directory, 'torrent-'));
    const torrent = join(shared, 'payload.torrent');
    const tracker = `http://${seed.address}:${TRACKER_PORT}/announce`;
    await writeTorrent(torrent, { file: payload.path, pieceBytes: PIECE_BYTES, tracker });
    const tracking = started.use(
      new Program([process.execPath, TRACKER, seed.address, String(TRACKER_PORT)], { namespace: seed.namespace }),
    );
    await tracking.line(/^ready$/, { signal: limit });

    const hook = join(shared, 'complete.sh');
    await writeFile(hook, '#!/bin/sh\necho complete\n');
    await chmod(hook, 0o755);
    const client = (place: Place, directory: string, ...more: string[]) => {
      const where = ['--dir', directory, '--interface', place.address, '--dht-file-path', join(shared, 'no-dht')];
      const argv = ['aria2c', ...FLAGS, ...where, `--on-bt-download-complete=${hook}`, ...more, torrent];
      return new Program(argv, { namespace: place.namespace, held: 'held' });
    };
    const origin = started.use(client(seed, dirname(payload.path), '--bt-seed-unverified=true'));
    origin.say('go');
    // It announces when it listens. Its own line is never printed, but a client that ends is noticed.
    await Promise.race([tracking.line(/^announced /, { signal: limit }), origin.line(/^complete$/, { signal: limit })]);

    const directories: string[] = [];
    for (const node of scene.nodes) directories.push(await mkdtemp(join(node.directory, 'aria2-')));
    const start = (node: number, ...more: string[]) => {
      const [place, directory] = [scene.nodes[node], directories[node]];
      if (place === undefined || directory === undefined) throw new RangeError(`the scene has no node ${node}`);
      return client(place, directory, ...more);
    };
    const receivers = scene.nodes.map((_, node) => started.use(start(node)));
    return new ProgramRace({
      origin,
      receivers,
      copies: directories.map((directory) => join(directory, basename(payload.path))),
      complete: /^complete$/,
      again: (node) => start(node, '--check-integrity=true'),
      aside: [started.move()],
    });
  },
};
