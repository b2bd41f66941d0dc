import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { command } from '../../src/host/command.ts';
import { missingUnless, sha256File } from '../contender/program.ts';
import type { Updater } from './updater.ts';
import { NGINX, WebServer } from './web-server.ts';

/** The slowest is a few minutes of compression, milliseconds. */
const MAKE_MS = 600_000;

/** casync over HTTP: chunks of the same average size, zstd as it comes, the old version as a seed. */
export function casync(averageBytes: number): Updater {
  return {
    name: 'casync',

    async missing() {
      const probes = [
        missingUnless('casync', ['casync', '--version']),
        missingUnless('nginx-light', [NGINX, '-v']),
        missingUnless('curl', ['curl', '--version']),
      ];
      const missing = (await Promise.all(probes)).filter((each) => each !== undefined);
      return missing.length === 0 ? undefined : `Debian packages ${missing.join(', ')}`;
    },

    async version() {
      return (await command(['casync', '--version'])).stdout.split('\n', 1)[0]?.trim() ?? 'casync';
    },

    async prepare(scene, { name, before, after }, { signal }) {
      const [node] = scene.nodes;
      if (node === undefined) throw new TypeError('the scene has one node');
      const root = join(scene.origin.directory, 'www');
      await mkdir(join(root, 'store'), { recursive: true });
      const index = `${name}.caibx`;
      const make = ['casync', 'make', `--store=${join(root, 'store')}`, `--chunk-size=${averageBytes}`];
      await command([...make, join(root, index), after.path], { signal, timeoutMs: MAKE_MS });
      await using stack = new AsyncDisposableStack();
      stack.defer(() => rm(root, { recursive: true, force: true }));
      const { url } = stack.use(await WebServer.open(scene, root, { signal }));
      const copy = join(node.directory, 'copy.img');
      stack.defer(() => rm(copy, { force: true }));
      const all = stack.move();
      const extract = ['casync', 'extract', `--store=${url}/store`, `--seed=${before.path}`, `${url}/${index}`, copy];
      return {
        go: async () => {
          const argv = ['ip', 'netns', 'exec', node.namespace, ...extract];
          await command(argv, { signal, timeoutMs: MAKE_MS });
        },
        sha256: () => sha256File(copy),
        [Symbol.asyncDispose]: () => all.disposeAsync(),
      };
    },
  };
}
