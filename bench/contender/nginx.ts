import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { command } from '../../src/host/command.ts';
import type { Contender } from '../site/contender.ts';
import { missingUnless, Program } from './program.ts';
import { ProgramRace } from './program-race.ts';

const PORT = 8088;
const NGINX = '/usr/sbin/nginx';
/** Milliseconds that nginx may take to listen. */
const START_MS = 10_000;

/** What most sites do today: one web server has the file, everybody fetches it with curl. */
export const nginx: Contender = {
  name: 'nginx',

  async missing() {
    const probes = [missingUnless('nginx-light', [NGINX, '-v']), missingUnless('curl', ['curl', '--version'])];
    const missing = (await Promise.all(probes)).filter((each) => each !== undefined);
    return missing.length === 0 ? undefined : `Debian packages ${missing.join(', ')}`;
  },

  async version() {
    const [server, client] = await Promise.all([command([NGINX, '-v']), command(['curl', '--version'])]);
    return `${server.stderr.trim().replace('nginx version: ', '')}, ${client.stdout.split(' ', 2).join(' ')}`;
  },

  async prepare(scene, payload, { signal }) {
    using started = new DisposableStack();
    const { namespace, address, directory } = scene.origin;
    const prefix = await mkdtemp(join(directory, 'nginx-'));
    await mkdir(join(prefix, 'logs'));
    const config = join(prefix, 'nginx.conf');
    await writeFile(config, configuration(address, dirname(payload.path)));
    const url = `http://${address}:${PORT}/${encodeURIComponent(basename(payload.path))}`;
    const origin = started.use(new Program([NGINX, '-p', prefix, '-c', config, '-e', 'stderr'], { namespace }));
    const copies: string[] = [];
    const receivers: Program[] = [];
    for (const node of scene.nodes) {
      const copy = join(await mkdtemp(join(node.directory, 'curl-')), 'payload');
      copies.push(copy);
      const argv = ['curl', '-sSf', '-o', copy, url];
      receivers.push(started.use(new Program(argv, { namespace: node.namespace, held: 'kept' })));
    }
    const probe = [
      'curl',
      '-sSfI',
      '--retry',
      '9',
      '--retry-connrefused',
      '--retry-delay',
      '1',
      '-o',
      '/dev/null',
      url,
    ];
    await command(['ip', 'netns', 'exec', namespace, ...probe], { signal, timeoutMs: START_MS });
    return new ProgramRace({ origin, receivers, copies, complete: /^ended 0$/, aside: [started.move()] });
  },
};

/** Debian's settings (sendfile, tcp_nopush) in one process without a log, so that killing it kills the server. */
function configuration(address: string, root: string): string {
  return `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  server {
    listen ${address}:${PORT};
    root ${JSON.stringify(root)};
  }
}
`;
}
