import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Contender } from '../site/contender.ts';
import { Program } from './program.ts';
import { ProgramRace } from './program-race.ts';

const RELAY = fileURLToPath(new URL('relay.ts', import.meta.url));
const START_MS = 20_000;

/**
 * No contender but a yardstick: about what Node itself needs to receive, hash, write and pass on every byte once. The
 * origin and the nodes are a chain of fixed order; nobody chooses, finds, compares or stores anything.
 */
export const bareNode: Contender = {
  name: 'bare-node',
  missing: async () => undefined,
  version: async () => `Node ${process.version}`,

  async prepare(scene, payload, { signal }) {
    using started = new DisposableStack();
    const limit = AbortSignal.any([signal, AbortSignal.timeout(START_MS)]);
    const about = ['--bytes', String(payload.bytes)];
    const relay = (namespace: string, ...more: string[]) =>
      started.use(new Program([process.execPath, RELAY, ...about, ...more], { namespace }));
    const { origin, nodes } = scene;
    const first = relay(origin.namespace, '--file', payload.path, '--listen', origin.address);
    const copies: string[] = [];
    const receivers: Program[] = [];
    let upstream = origin.address;
    for (const [n, node] of nodes.entries()) {
      const copy = join(await mkdtemp(join(node.directory, 'relay-')), 'payload');
      const listen = n + 1 < nodes.length ? ['--listen', node.address] : [];
      receivers.push(relay(node.namespace, '--file', copy, '--upstream', upstream, ...listen));
      copies.push(copy);
      upstream = node.address;
    }
    await Promise.all([first, ...receivers].map((program) => program.line(/^ready$/, { signal: limit })));
    first.say('go');
    return new ProgramRace({ origin: first, receivers, copies, complete: /^complete$/, aside: [started.move()] });
  },
};
