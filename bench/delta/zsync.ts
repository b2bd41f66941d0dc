import { link, mkdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { command } from '../../src/host/command.ts';
import { missingUnless, sha256File } from '../contender/program.ts';
import type { Updater } from './updater.ts';
import { NGINX, WebServer } from './web-server.ts';

const MAKE_MS = 600_000;

/** zsync over HTTP: block size as it chooses, the old version as its input. */
export const zsync: Updater = {
  name: 'zsync',

  async missing() {
    // zsync -V ends with 1 on some versions: what counts is that it can be started.
    const probes = [
      missingUnless('zsync', ['sh', '-c', 'command -v zsync && command -v zsyncmake']),
      missingUnless('nginx-light', [NGINX, '-v']),
      missingUnless('curl', ['curl', '--version']),
    ];
    const missing = (await Promise.all(probes)).filter((each) => each !== undefined);
    return missing.length === 0 ? undefined : `Debian packages ${missing.join(', ')}`;
  },

  async version() {
    const { stdout, stderr } = await command(['sh', '-c', 'zsync -V || true']);
    return `${stdout}${stderr}`.split('\n', 1)[0]?.trim() ?? 'zsync';
  },

  async prepare(scene, { before, after }, { signal }) {
    const [node] = scene.nodes;
    if (node === undefined) throw new TypeError('the scene has one node');
    const root = join(scene.origin.directory, 'www');
    await mkdir(root, { recursive: true });
    const file = basename(after.path);
    await link(after.path, join(root, file));
    const control = join(root, `${file}.zsync`);
    await command(['zsyncmake', '-o', control, '-u', file, join(root, file)], { signal, timeoutMs: MAKE_MS });
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rm(root, { recursive: true, force: true }));
    const { url } = stack.use(await WebServer.open(scene, root, { signal }));
    const copy = join(node.directory, 'copy.img');
    stack.defer(() => rm(copy, { force: true }));
    const all = stack.move();
    return {
      go: async () => {
        const fetch = ['zsync', '-q', '-i', before.path, '-o', copy, `${url}/${file}.zsync`];
        const argv = ['ip', 'netns', 'exec', node.namespace, ...fetch];
        await command(argv, { signal, timeoutMs: MAKE_MS });
      },
      sha256: () => sha256File(copy),
      [Symbol.asyncDispose]: () => all.disposeAsync(),
    };
  },
};
