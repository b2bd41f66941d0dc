/**
 * Stands in for the agent in tests of the lab: reads the configuration it is given, serves zeros over HTTP
 * (`/<bytes>`) where the gateway would, and says on its control socket that it is ready.
 *
 * A node named `broken` ends at once, as an agent with an unusable configuration does.
 */
import { readFile, rm } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { parseArgs } from 'node:util';
import { parse } from 'yaml';

const { config: file = '' } = parseArgs({ options: { config: { type: 'string' } } }).values;
const config = parse(await readFile(file, 'utf8')) as { data: string; node: string; gateway: { listen: string[] } };
if (config.node === 'broken') {
  console.error('the configuration is no good');
  process.exit(3);
}

const zeros = Buffer.alloc(64 * 1024);
for (const address of config.gateway.listen) {
  const [, host = '', port = ''] = /^\[?([^\]]+)\]?:(\d+)$/.exec(address) ?? [];
  const gateway = createHttpServer((request, response) => {
    let left = Number(request.url?.slice(1));
    const body = function* () {
      for (; left > 0; left -= zeros.length) yield zeros.subarray(0, Math.min(left, zeros.length));
    };
    Readable.from(body()).pipe(response);
  });
  await new Promise<void>((resolve) => gateway.listen(Number(port), host, resolve));
}
const socket = join(config.data, 'agent.sock');
await rm(socket, { force: true });
createServer().listen(socket);
console.log('ready');
