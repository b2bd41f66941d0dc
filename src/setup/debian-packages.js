// Plain JavaScript for Node 20: this runs before anything is installed.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';

/** Debian package → a file that only it (or an equal of it) brings, and what bootmesh needs it for. */
export const debianPackages = {
  libatomic1: { file: `/usr/lib/${multiarch}/libatomic.so.1`, why: 'Node 26 itself: nothing runs without it' },
  iproute2: { file: '/sbin/ip', why: 'network namespaces and traffic shaping of the lab' },
  procps: { file: '/sbin/sysctl', why: 'network settings of the lab' },
  'util-linux': { file: '/usr/bin/setpriv', why: 'processes of the lab die with it' },
  'qemu-system-x86': { file: '/usr/bin/qemu-system-x86_64', why: 'virtual machines of the lab' },
  'ipxe-qemu': { file: '/usr/lib/ipxe/qemu/pxe-virtio.rom', why: 'the network boot ROM of those machines' },
  ipxe: { file: '/usr/lib/ipxe/undionly.kpxe', why: 'the boot loader that nodes serve to BIOS machines' },
  'squashfs-tools': { file: '/usr/bin/mksquashfs', why: 'root file systems' },
  'busybox-static': { file: '/bin/busybox', why: 'the userland of the initramfs' },
  'signify-openbsd': { file: '/usr/bin/signify-openbsd', why: 'the release check inside the initramfs' },
  'wireguard-tools': { file: '/usr/bin/wg', why: 'the WireGuard interface of members' },
  'wireguard-go': { file: '/usr/bin/wireguard-go', why: 'that interface where the kernel has no WireGuard' },
  nftables: { file: '/usr/sbin/nft', why: 'tests put NAT in front of sites' },
  kmod: { file: '/sbin/modinfo', why: 'kernel modules of the initramfs' },
  'xz-utils': { file: '/usr/bin/xz', why: 'Debian packages compressed by it' },
  cpio: { file: '/usr/bin/cpio', why: 'tests compare our archives with it' },
  git: { file: '/usr/bin/git', why: 'tests look at what is tracked' },
  curl: { file: '/usr/bin/curl', why: 'tests use it as a client that is not ours' },
  'dnsmasq-base': {
    file: '/usr/sbin/dnsmasq',
    why: 'IPv6 routers of the lab; tests use it as the DHCP server of another vendor',
  },
};

/** The packages of the list above that this machine lacks. */
export function missingDebianPackages() {
  return Object.entries(debianPackages)
    .filter(([, { file }]) => !existsSync(file))
    .map(([name, { why }]) => ({ name, why }));
}

/** Installs what is missing where it can (root with apt-get); else prints what is missing and how to get it. */
export function ensureDebianPackages() {
  const missing = missingDebianPackages();
  if (missing.length === 0) return;
  const names = missing.map(({ name }) => name);
  const install = ['apt-get', 'install', '-y', '--no-install-recommends', ...names];
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    console.error('set-up: these Debian packages are missing; what needs them is left out:');
    for (const { name, why } of missing) console.error(`  ${name.padEnd(18)}${why}`);
    console.error(`set-up: as root, run: apt-get update && ${install.join(' ')}`);
    return;
  }
  console.error(`set-up: installing Debian packages: ${names.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const quiet = { env, stdio: ['ignore', 'ignore', 'inherit'] };
  const run = () => spawnSync(install[0], install.slice(1), quiet).status === 0;
  spawnSync('apt-get', ['update', '-q'], quiet);
  if (!run() && !run()) {
    console.error(`set-up: apt-get failed. See its message above, then run: ${install.join(' ')}`);
    process.exit(1);
  }
}
