import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { command } from '../../src/host/command.ts';
import { Program } from '../contender/program.ts';
import type { Scene } from '../site/scene.ts';

const PORT = 8090;
export const NGINX = '/usr/sbin/nginx';
/** Milliseconds that nginx may take to listen. */
const START_MS = 10_000;

/** nginx on the origin, with `root` below its URL. Disposing ends it. */
export class WebServer implements Disposable {
  readonly url: string;
  readonly #program: Program;

  private constructor(url: string, program: Program) {
    this.url = url;
    this.#program = program;
  }

  static async open({ origin }: Scene, root: string, { signal }: { readonly signal: AbortSignal }): Promise<WebServer> {
    const prefix = await mkdtemp(join(origin.directory, 'nginx-'));
    await mkdir(join(prefix, 'logs'));
    const config = join(prefix, 'nginx.conf');
    await writeFile(config, configuration(origin.address, root));
    const argv = [NGINX, '-p', prefix, '-c', config, '-e', 'stderr'];
    using program = new DisposableStack();
    const server = new WebServer(
      `http://${origin.address}:${PORT}`,
      program.use(new Program(argv, { namespace: origin.namespace })),
    );
    const probe = ['curl', '-sSI', '--retry', '9', '--retry-connrefused', '--retry-delay', '1', '-o', '/dev/null'];
    await command(['ip', 'netns', 'exec', origin.namespace, ...probe, `${server.url}/`], {
      signal,
      timeoutMs: START_MS,
    });
    program.move();
    return server;
  }

  [Symbol.dispose](): void {
    this.#program.kill();
  }
}

/** As Debian has it, for many small requests over one connection. */
function configuration(address: string, root: string): string {
  return `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
events { worker_connections 1024; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  server {
    listen ${address}:${PORT};
    root ${JSON.stringify(root)};
  }
}
`;
}
