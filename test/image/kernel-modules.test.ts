import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { moduleName, readModuleTable, resolveModules } from '../../src/image/kernel-modules.ts';

// Lines as depmod writes them for Debian's 6.1 cloud kernel.
const DEP = `kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/drivers/net/xen-netfront.ko.zst:
`;
const BUILTIN = 'kernel/net/packet/af_packet.ko\nkernel/fs/ext4/ext4.ko\n';

test('what a module needs is loaded before it, each once', () => {
  const { load, missing } = resolveModules(readModuleTable(DEP, BUILTIN), ['virtio_net', 'virtio']);
  assert.deepEqual(missing, []);
  assert.equal(new Set(load).size, 5);
  const at = (name: string): number => load.findIndex((path) => moduleName(path) === name);
  for (const [first, then] of [
    ['virtio_ring', 'virtio'],
    ['virtio', 'virtio_net'],
    ['failover', 'net_failover'],
    ['net_failover', 'virtio_net'],
  ] as const) {
    assert.ok(at(first) >= 0 && at(first) < at(then), `${first} before ${then}: ${load.join(' ')}`);
  }
});

test('names are spelled with dashes or underscores; built-in ones need no file, unknown ones are told', () => {
  const table = readModuleTable(DEP, BUILTIN);
  assert.deepEqual(resolveModules(table, ['xen_netfront', 'xen-netfront']).load, [
    'kernel/drivers/net/xen-netfront.ko.zst',
  ]);
  assert.deepEqual(resolveModules(table, ['af-packet', 'e1000']), { load: [], missing: ['e1000'] });
});

test('any dependency table, circles and dangling names included, resolves to each module at most once', () => {
  const line = fc.record({ of: fc.nat(9), on: fc.array(fc.nat(12), { maxLength: 4 }) });
  fc.assert(
    fc.property(fc.array(line), fc.array(fc.nat(12)), (lines, names) => {
      const text = lines.map(({ of, on }) => `m${of}.ko: ${on.map((n) => `m${n}.ko`).join(' ')}`).join('\n');
      const { load } = resolveModules(
        readModuleTable(text, ''),
        names.map((n) => `m${n}`),
      );
      assert.equal(new Set(load).size, load.length);
    }),
  );
});
