#!/usr/bin/env node
// The `bootmesh` command. Plain JavaScript for Node 20: finds Node 26 and the program, and becomes it.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import module, { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AGENT_ENV, AGENT_FLAGS } from './agent-process.js';

const NEEDED = 26;

const isAgent = process.argv[2] === 'up';
const FLAGS = isAgent ? AGENT_FLAGS : [];
/**
 * Where Node keeps compiled code for the next start, which then costs a verb half the processor time and the agent a
 * third less: what systemd gives the service, else within the installation, so that nobody can write there who could not
 * change the program itself.
 */
const CODE = process.env['CACHE_DIRECTORY'] ?? fileURLToPath(new URL('../../node_modules/.cache', import.meta.url));
const ENV = {
  NODE_COMPILE_CACHE: join(CODE, 'bootmesh-code'),
  ...(isAgent && AGENT_ENV),
  ...process.env,
};

// A published package has no TypeScript; a checkout may have a stale dist/.
const program = ['../cli/main.ts', '../../dist/cli/main.js']
  .map((path) => fileURLToPath(new URL(path, import.meta.url)))
  .find((path) => existsSync(path));

if (program === undefined) {
  fail('the program is missing from this installation: install the package again');
} else if (isNew() && FLAGS.every((flag) => process.execArgv.includes(flag))) {
  module.enableCompileCache(ENV.NODE_COMPILE_CACHE);
  await import(program);
} else {
  become(program);
}

/** @param {string} file */
function become(file) {
  const node = isNew() ? process.execPath : packagedNode();
  if (node === undefined) {
    fail(
      `Node ${NEEDED} is needed, and neither this one (${process.versions.node}) nor the npm package "node" is it: ` +
        'install bootmesh again and let npm run the install script of "node" (npm approve-scripts node)',
    );
    return;
  }
  const args = [...FLAGS, file, ...process.argv.slice(2)];
  // Node 22.15 and later; the process keeps its pid, terminal and parent.
  if (typeof process.execve === 'function') process.execve(node, [node, ...args], ENV);
  const child = spawn(node, args, { stdio: 'inherit', env: ENV });
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  // Ctrl-C on a terminal reaches the whole process group, the child included.
  process.on('SIGINT', () => process.stdin.isTTY || child.kill('SIGINT'));
  child.on('error', (error) => fail(`${node} cannot be run: ${error.message}`));
  child.on('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 1)));
}

function isNew() {
  return Number(process.versions.node.split('.')[0]) >= NEEDED;
}

function packagedNode() {
  try {
    const path = join(dirname(createRequire(import.meta.url).resolve('node/package.json')), 'bin/node');
    return existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** @param {string} sentence */
function fail(sentence) {
  console.error(`bootmesh: ${sentence}`);
  process.exitCode = 1;
}
