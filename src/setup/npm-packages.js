// Plain JavaScript for Node 20: this runs before anything is installed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Node 26 from the npm package `node`, whatever version runs this file. */
export function nodeBinary(root) {
  return join(root, 'node_modules/node/bin/node');
}

/** `npm ci`, unless the last one was for this very lock file. */
export function ensureNpmPackages(root) {
  const stampFile = join(root, 'node_modules/.bootmesh-lock');
  const stamp = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const done = existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp && existsSync(nodeBinary(root));
  if (done) return;
  console.error('set-up: npm ci');
  // The engine warnings speak of the Node that runs npm; bootmesh runs on the Node that npm installs here.
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  const npm = spawnSync('npm', args, { cwd: root, stdio: ['ignore', 2, 'inherit'] });
  if (npm.status !== 0 || !existsSync(nodeBinary(root))) {
    console.error('set-up: npm ci failed. See its message above; is a registry configured and reached (npm ping)?');
    process.exit(1);
  }
  writeFileSync(stampFile, stamp);
}
