/**
 * Holds a lab up in a process of its own, as `bootmesh lab up` does, so that tests can interrupt and kill it:
 * `lab-host.ts <description> <directory>`. Prints `up` when it stands; SIGINT and SIGTERM take it down.
 */
import { once } from 'node:events';
import { readDescription } from '../../src/fleet/description.ts';
import { labUp } from '../../src/lab/lab.ts';

const [description = '', directory = ''] = process.argv.slice(2);
const agent = new URL('lab-agent.ts', import.meta.url).pathname;
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort());

try {
  await using _lab = await labUp(
    await readDescription(description),
    { agentCommand: [process.execPath, agent], directory, onEvent: ({ type }) => console.log(type) },
    { signal: interrupted.signal },
  );
  console.log('up');
  const alive = setInterval(() => {}, 60_000);
  if (!interrupted.signal.aborted) await once(interrupted.signal, 'abort');
  clearInterval(alive);
} catch (error) {
  if (!interrupted.signal.aborted) throw error;
}
