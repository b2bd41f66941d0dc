import { readdir } from 'node:fs/promises';

interface Bench {
  readonly summary: string;
  run(argv: string[], options: { signal: AbortSignal }): Promise<void>;
}

const here = new URL('.', import.meta.url);
const files = (await readdir(here)).filter((file) => file.endsWith('.ts') && file !== 'main.ts');
const names = files.map((file) => file.slice(0, -3)).sort();
const [name, ...argv] = process.argv.slice(2);

if (name === undefined || !names.includes(name)) {
  console.error('usage: npm run bench -- NAME [--json] [--help]\n');
  for (const each of names) {
    const bench: Bench = await import(new URL(`${each}.ts`, here).href);
    console.error(`  ${each.padEnd(16)}${bench.summary}`);
  }
  process.exit(name === undefined || name === '--help' ? 0 : 2);
}
const bench: Bench = await import(new URL(`${name}.ts`, here).href);
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort(new Error(signal)));
try {
  await bench.run(argv, { signal: stop.signal });
} catch (error) {
  console.error(error instanceof Error ? (error.stack ?? error.message) : error);
  process.exitCode = 1;
}
