// Makes a fresh clone runnable, then runs one thing in it with Node 26: `node src/setup/run.js demo|test|bench [ARG…]`.
// Plain JavaScript for Node 20: this runs before anything is installed. A second run finds all done and costs nothing.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureDebianPackages } from './debian-packages.js';
import { ensureNpmPackages, nodeBinary } from './npm-packages.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const [task = '', ...args] = process.argv.slice(2);

// Virtual machines and what is timed share two cores badly: files that do such things run one after the other, after the
// rest, of which two share them well.
const ALONE = ['boot', 'e2e/boot', 'exchange', 'lab', 'machine', 'swarm'];
const testing = (files, concurrency) => [
  ...['--import', './test/process.ts', '--test', `--test-concurrency=${concurrency}`, '--test-timeout=300000'],
  ...args.filter((arg) => arg.startsWith('-')),
  ...files,
];
function tests() {
  const named = args.filter((arg) => !arg.startsWith('-'));
  if (named.length > 0) return [testing(named, 1)];
  const all = testFiles('test');
  const alone = all.filter((file) => ALONE.includes(dirname(relative('test', file))));
  const shared = all.filter((file) => !alone.includes(file));
  return [testing(shared, 2), testing(alone, 1)];
}
function testFiles(folder) {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return testFiles(path);
    return path.endsWith('.test.ts') ? [path] : [];
  });
}
const tasks = {
  demo: () => [['src/demo/main.ts', ...args]],
  test: tests,
  bench: () => [['bench/main.ts', ...args]],
};

if (!(task in tasks)) {
  console.error(`usage: node src/setup/run.js ${Object.keys(tasks).join('|')} [ARG…]`);
  process.exit(2);
}
// In this order: Node 26, which npm's install scripts run, needs a Debian package.
ensureDebianPackages();
ensureNpmPackages(root);

const node = nodeBinary(root);
const env = { ...process.env, PATH: `${dirname(node)}${delimiter}${process.env.PATH}` };
// npm puts the Node that runs it here; children must not inherit a coverage or test context either.
delete env.NODE_TEST_CONTEXT;
let failed = 0;
for (const run of tasks[task]()) {
  const code = await exitOf(run);
  if (code > 128) process.exit(code);
  failed ||= code;
}
process.exit(failed);

/** The exit code as a shell gives it. */
function exitOf(run) {
  const child = spawn(node, ['--disable-warning=ExperimentalWarning', ...run], { cwd: root, stdio: 'inherit', env });
  const passOn = (signal) => child.kill(signal);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  for (const signal of signals) process.on(signal, passOn);
  return new Promise((resolve) => {
    child.on('exit', (code, signal) => {
      for (const each of signals) process.off(each, passOn);
      resolve(code ?? 128 + (constants.signals[signal] ?? 1));
    });
  });
}
