import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { missingRequirements } from '../lab/requirements.ts';
import { runDemo } from './demo.ts';
import { Screen } from './screen.ts';

const HELP = `npm run demo [-- --json] [--console] [--keep]

Builds a small fleet on this machine in network namespaces, switches its publisher off, and boots a virtual machine
without a disk from the neighbours that are left. Needs root; takes one to three minutes.

  --json      print one JSON object as the last line, and the story to standard error
  --console   show the machine's console as it boots
  --keep      keep keys, stores and logs, and say where they are
`;

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    console: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
process.exitCode = values.help ? help() : await main();

function help(): number {
  process.stdout.write(HELP);
  return 0;
}

async function main(): Promise<number> {
  const missing = await missingRequirements();
  if (missing.length > 0) {
    console.error(`the demo needs:\n${missing.map((each) => `  ${each}`).join('\n')}`);
    return 1;
  }
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => stop.abort(new Error(`stopped by ${name}`)));
  }
  const root = new URL('../..', import.meta.url);
  const directory = await mkdtemp(join(tmpdir(), 'bootmesh-demo-'));
  const screen = new Screen(values.json ? process.stderr : process.stdout, { console: values.console });
  const options = {
    description: fileURLToPath(new URL('peers/demo.yaml', root)),
    cache: fileURLToPath(new URL('.cache/debian', root)),
    directory,
    screen,
  };
  try {
    const result = await runDemo(options, { signal: stop.signal });
    screen.verdict(
      result.ok,
      `${result.booted_from.join(' and ')} booted it in ${result.boot_s} s; the origin was off`,
    );
    if (values.json) console.log(JSON.stringify(result));
    return result.ok ? 0 : 1;
  } catch (error) {
    screen.verdict(false, (error as Error).message);
    if (values.json) console.log(JSON.stringify({ ok: false, error: (error as Error).message }));
    return 1;
  } finally {
    if (values.keep) screen.step('kept', directory);
    else await rm(directory, { recursive: true, force: true });
  }
}
