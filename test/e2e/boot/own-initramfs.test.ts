import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import type { SiteOptions } from '../../../src/demo/site.ts';
import { type CpioEntry, writeCpio } from '../../../src/image/cpio.ts';
import { type DebianKernel, debianKernel } from '../../../src/image/debian-kernel.ts';
import { readModuleTable, resolveModules } from '../../../src/image/kernel-modules.ts';
import { openSite } from './boot-site.ts';
import { missingForGuests } from './guest-lab.ts';
import { noise } from './small-rootfs.ts';

const missing = missingForGuests();
const skip = missing !== '' && missing;

const DESCRIPTION = `
fleet: own
channels: [demo]
sites: { here: { lan: 1Gbit } }
nodes:
  north: { site: here, roles: [origin, seed], boot: auto }
machines:
  bare: { segment: here, memory: 512MiB }
`;
/** As dracut's livenet takes it; the rest shows what else a template can say. */
const CMDLINE = 'console=ttyS0 quiet root=live:{{artifact:rootfs}} own.sha256={{sha256:rootfs}} own.mac={{mac}}';
/** An initramfs that knows nothing of bootmesh. */
const INIT = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /bin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
exec < /dev/console > /dev/console 2>&1
while read -r module; do insmod /modules/$module; done < /modules/order
ip link set eth0 up
udhcpc -i eth0 -q -n -t 20 -s /address.sh
for word in $(cat /proc/cmdline); do
  case $word in
    root=live:*) url=\${word#root=live:} ;;
    own.sha256=*) wanted=\${word#own.sha256=} ;;
    own.mac=*) mac=\${word#own.mac=} ;;
  esac
done
wget -q -O /rootfs "$url"
[ "$(sha256sum < /rootfs)" = "$wanted  -" ] && echo "own initramfs has its rootfs mac=$mac from=$url"
while :; do sleep 60; done
`;
const ADDRESS = '#!/bin/busybox sh\n[ "$1" = bound ] && ip addr add "$ip/$mask" dev "$interface"\nexit 0\n';

const file = (path: string, data: Uint8Array | string): CpioEntry => {
  return { kind: 'file', path, mode: 0o755, data: Buffer.from(data) };
};

async function ownInitramfs(kernel: DebianKernel): Promise<Uint8Array> {
  const text = (name: string) => readFile(join(kernel.modules, name), 'utf8');
  const table = readModuleTable(await text('modules.dep'), await text('modules.builtin'));
  const { load } = resolveModules(table, ['virtio_pci', 'virtio_net', 'af_packet']);
  const modules = load.map(async (path) =>
    file(`modules/${basename(path)}`, await readFile(join(kernel.modules, path))),
  );
  return writeCpio([
    file('init', INIT),
    file('address.sh', ADDRESS),
    file('bin/busybox', await readFile('/bin/busybox')),
    file('modules/order', load.map((path) => `${basename(path)}\n`).join('')),
    ...(await Promise.all(modules)),
  ]);
}

const materials: NonNullable<SiteOptions['materials']> = async ({ cache, directory }, { signal }) => {
  const kernel = await debianKernel({ cache }, { signal });
  const files = { initramfs: join(directory, 'own.cpio'), rootfs: join(directory, 'own.img') };
  await writeFile(files.initramfs, await ownInitramfs(kernel));
  await writeFile(files.rootfs, noise(3_000_000));
  return { kernel: kernel.vmlinuz, kernelRelease: kernel.release, ...files };
};

test('a release of one’s own kernel, initramfs and command line boots as well', {
  skip,
  timeout: 90_000,
}, async (t) => {
  await using scene = await openSite(DESCRIPTION, { signal: t.signal, materials });
  const { site } = scene;
  const published = await site.publish(CMDLINE, { signal: t.signal });
  await site.untilHeld(['north'], { signal: t.signal });
  await site.untilBooting(['north'], { signal: t.signal });

  await using machine = await site.lab.startMachine('bare', {}, { signal: t.signal });
  const { text } = await machine.waitFor(/own initramfs has its rootfs mac=(\S+) from=(\S+)/, { signal: t.signal });

  const { cid, sha256 } = published.artifacts.find(({ name }) => name === 'rootfs') ?? assert.fail();
  assert.equal(sha256, createHash('sha256').update(noise(3_000_000)).digest('hex'));
  const mac = site.lab.topology.machines['bare']?.mac;
  assert.ok(text.includes(`mac=${mac} from=${site.lab.node('north').gateways[0]}/artifact/${cid}`), text);
});
