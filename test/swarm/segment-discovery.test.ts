import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createNamespace } from '../../src/lab/namespace.ts';
import { missingRequirements } from '../../src/lab/requirements.ts';

const missing = await missingRequirements();
const skip = missing.length > 0 && `no network namespaces here: ${missing.join('; ')}`;
const ADDRESS = '10.77.9.1';
const NODES = 4;

suite('segment discovery', { timeout: 60_000 }, () => {
  test('members that know no address find each other by multicast', { skip }, async () => {
    await using segment = await createNamespace(`bm-t${process.pid}-mdns`);
    // A bridge of one machine: what it multicasts comes back to it.
    await segment.addBridge('br0', { addresses: [`${ADDRESS}/24`] });
    await segment.ip('route', 'add', '224.0.0.0/4', 'dev', 'br0');
    const program = fileURLToPath(new URL('./discoverers.ts', import.meta.url));
    const { stdout } = await segment.run([process.execPath, program, ADDRESS, `${NODES}`, '20000']);
    assert.deepEqual(
      JSON.parse(stdout),
      Array.from({ length: NODES }, () => NODES - 1),
    );
  });
});
