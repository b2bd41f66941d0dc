import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { RequirementsMissing } from '../../src/lab/requirements.ts';

const module = new URL('../../src/lab/requirements.ts', import.meta.url).href;

test('what this machine lacks is listed item by item, each with what to do', () => {
  const script = `process.geteuid = () => 1000;
    const { missingRequirements } = await import('${module}');
    console.log(JSON.stringify(await missingRequirements({ nat: true, overlay: true })));`;
  const options = { encoding: 'utf8', env: { PATH: '/nonexistent' } } as const;
  const missing = JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', script], options));
  assert.deepEqual(missing, [
    'root: run it as root (sudo)',
    "the program 'ip': on Debian, apt-get install iproute2",
    "the program 'tc': on Debian, apt-get install iproute2",
    "the program 'setpriv': on Debian, apt-get install util-linux",
    "the program 'sysctl': on Debian, apt-get install procps",
    "the program 'nft': on Debian, apt-get install nftables",
    "the program 'wg': on Debian, apt-get install wireguard-tools",
  ]);
  assert.match(new RequirementsMissing(missing).message, /^no lab can be made on this machine:\n {2}- root: /);
});
