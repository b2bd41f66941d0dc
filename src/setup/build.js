// `npm pack` runs this: dist/ = src/ as JavaScript, because Node refuses to strip types under node_modules.
// Plain JavaScript for Node 20, like everything in this room.
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureNpmPackages } from './npm-packages.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const dist = join(root, 'dist');
ensureNpmPackages(root);
rmSync(dist, { recursive: true, force: true });
const tsc = spawnSync(join(root, 'node_modules/.bin/tsc'), ['-p', join(root, 'src')], { cwd: root, stdio: 'inherit' });
if (tsc.status !== 0) process.exit(tsc.status ?? 1);
// What is not TypeScript (the init script, the systemd unit) ships as it is.
cpSync(join(root, 'src'), dist, {
  recursive: true,
  filter: (path) => !/\.ts$|tsconfig\.json$|\/src\/setup(\/|$)/.test(path),
});
