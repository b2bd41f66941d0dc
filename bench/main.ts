import { readdir } from 'node:fs/promises';

interface Bench {
  readonly summary: string;
  /** Lines about its flags. */
  readonly help?: readonly string[];
  run(argv: string[], options: { signal: AbortSignal }): Promise<void>;
}

/** Every file beside this one is a bench; what benches are made of lives in folders. */
const here = new URL('.', import.meta.url);
const files = (await readdir(here)).filter((file) => file.endsWith('.ts') && file !== 'main.ts');
const names = files.map((file) => file.slice(0, -3)).sort();
const [name, ...argv] = process.argv.slice(2);

if (name === undefined || !names.includes(name) || argv.includes('--help')) {
  const asked = name === undefined || name === '--help' || names.includes(name);
  const say = asked ? console.log : console.error;
  say('usage: npm run bench -- NAME [--json] [OPTION…]\n');
  const own = name !== undefined && names.includes(name) ? await load(name) : undefined;
  if (own?.help) say([`${name}: ${own.summary}`, ...own.help, ''].join('\n'));
  for (const each of names) say(`  ${each.padEnd(16)}${(await load(each)).summary}`);
  say('\nbench/README.md has the options, what came out here, and how to read it.');
  process.exit(asked ? 0 : 2);
}
const bench = await load(name);
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort(new Error(signal)));
try {
  await bench.run(argv, { signal: stop.signal });
} catch (error) {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (error instanceof Error && code.startsWith('ERR_PARSE_ARGS')) {
    console.error(`${error.message}\nnpm run bench -- ${name} --help says what ${name} takes.`);
    process.exitCode = 2;
  } else {
    console.error(error instanceof Error ? (error.stack ?? error.message) : error);
    process.exitCode = 1;
  }
}

async function load(bench: string): Promise<Bench> {
  return await import(new URL(`${bench}.ts`, here).href);
}
