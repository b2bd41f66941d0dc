// Makes a fresh clone runnable, then runs one thing in it with Node 26: `node src/setup/run.js demo|test|bench [ARG…]`.
// Plain JavaScript for Node 20: this runs before anything is installed. A second run finds all done and costs nothing.
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { delimiter, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureDebianPackages } from './debian-packages.js';
import { ensureNpmPackages, nodeBinary } from './npm-packages.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const [task = '', ...args] = process.argv.slice(2);

// Virtual machines and shaped links share two cores badly: files that use them run one after the other.
const testFiles = (args.length > 0 ? args : ['test/**/*.test.ts']).filter((arg) => !arg.startsWith('-'));
const testFlags = args.filter((arg) => arg.startsWith('-'));
const tasks = {
  demo: ['src/demo/main.ts', ...args],
  test: ['--test', '--test-concurrency=1', '--test-timeout=300000', ...testFlags, ...testFiles],
  bench: ['bench/main.ts', ...args],
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
const child = spawn(node, ['--disable-warning=ExperimentalWarning', ...tasks[task]], {
  cwd: root,
  stdio: 'inherit',
  env,
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 1)));
