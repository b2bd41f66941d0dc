import { type ChildProcess, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { CLOUD_KERNEL, debianKernel } from '../../../src/image/debian-kernel.ts';
import { buildInitramfs } from '../../../src/image/initramfs.ts';
import { connect, createNamespace, type Namespace } from '../../../src/lab/namespace.ts';
import { startMachine, type VirtualMachine } from '../../../src/machine/virtual-machine.ts';
import type { NeighbourEvent, NeighbourPlan } from '../../fakes/neighbour.ts';
import { buildSmallRootfs } from './small-rootfs.ts';

const CACHE = fileURLToPath(new URL('../../../.cache/debian', import.meta.url));
const NEIGHBOUR = fileURLToPath(new URL('../../fakes/neighbour.ts', import.meta.url));
const CID = 'bafybeiguestrootfs';
const PORT = 8080;
export const PIECE = 4 * 1024 * 1024;

/** What this machine lacks for running guests; empty when it can. Used as the reason of a skip. */
export function missingForGuests(): string {
  const files = {
    '/usr/bin/qemu-system-x86_64': 'qemu-system-x86',
    '/usr/bin/signify-openbsd': 'signify-openbsd',
    '/usr/bin/mksquashfs': 'squashfs-tools',
    '/bin/busybox': 'busybox-static',
    '/sbin/depmod': 'kmod',
    '/dev/net/tun': 'a kernel with tun devices',
  };
  const missing = Object.entries(files).flatMap(([file, needs]) => (existsSync(file) ? [] : [needs]));
  if (process.getuid?.() !== 0) missing.unshift('root');
  return missing.length === 0 ? '' : `guests need ${missing.join(', ')}`;
}

/** One segment with a machine's tap, and neighbours in namespaces of their own. */
export class GuestLab implements AsyncDisposable {
  readonly directory: string;
  readonly kernel: string;
  readonly rootfs: Buffer;
  readonly rootfsSha256: string;
  readonly #switch: Namespace;
  readonly #stack = new AsyncDisposableStack();
  #members = 1;

  private constructor(directory: string, kernel: string, rootfs: Buffer, segment: Namespace) {
    this.directory = directory;
    this.kernel = kernel;
    this.rootfs = rootfs;
    this.rootfsSha256 = sha256(rootfs);
    this.#switch = segment;
    this.#stack.use(segment);
    this.#stack.defer(() => rm(directory, { recursive: true, force: true }));
  }

  static async create({ signal }: { signal: AbortSignal }): Promise<GuestLab> {
    const directory = await mkdtemp(join(tmpdir(), 'bm-guest-'));
    const kernel = await debianKernel({ cache: CACHE, metapackage: CLOUD_KERNEL }, { signal });
    signify(directory, ['-G', '-n', '-p', 'fleet.pub', '-s', 'fleet.sec']);
    await buildInitramfs(
      {
        modules: kernel.modules,
        ticketKeys: [await readFile(join(directory, 'fleet.pub'), 'utf8')],
        output: join(directory, 'initramfs'),
        compression: 'gzip',
      },
      { signal },
    );
    await buildSmallRootfs(
      { cache: CACHE, output: join(directory, 'rootfs'), fillerBytes: 9 * 1024 * 1024 },
      { signal },
    );
    const segment = await createNamespace(`bm-guest-${process.pid}`);
    const lab = new GuestLab(directory, kernel.vmlinuz, await readFile(join(directory, 'rootfs')), segment);
    await segment.addBridge('lan', { addresses: ['10.88.0.1/24'] });
    await segment.addBridge('nowhere');
    await segment.addTap('idle', 'nowhere');
    await segment.addTap('guest', 'lan');
    await lab.publish({});
    return lab;
  }

  /** Writes the release; `change` edits the ticket before, `forge` after it is signed. */
  async publish({ change, forge }: { change?: (ticket: string) => string; forge?: (ticket: string) => string }) {
    const hashes: string[] = [];
    for (let at = 0; at < this.rootfs.length; at += PIECE) hashes.push(sha256(this.rootfs.subarray(at, at + PIECE)));
    const pieces = hashes.map((hash) => `${hash}\n`).join('');
    await writeFile(join(this.directory, 'pieces'), pieces);
    const rootfs = `rootfs ${CID} ${this.rootfs.length} ${this.rootfsSha256} ${sha256(pieces)} ${PIECE}`;
    const ticket = ['bootmesh-ticket 1', 'fleet test', 'channel production', 'version 3', rootfs, ''].join('\n');
    const path = join(this.directory, 'ticket');
    await writeFile(path, change?.(ticket) ?? ticket);
    signify(this.directory, ['-S', '-s', 'fleet.sec', '-m', 'ticket', '-x', 'ticket.sig']);
    if (forge) await writeFile(path, forge(await readFile(path, 'utf8')));
  }

  /** Starts a neighbour on a link of its own; what `publish` wrote last is what it serves. */
  async neighbour(name: string, plan: Partial<NeighbourPlan> = {}): Promise<Neighbour> {
    const member = ++this.#members;
    const namespace = await createNamespace(`bm-guest-${process.pid}-${name}`);
    this.#stack.use(namespace);
    const port = `to-${name}`;
    const addresses = [`10.88.0.${member}/24`, `fd88::${member}/64`];
    await connect(
      { namespace, interface: 'lan', addresses },
      { namespace: this.#switch, interface: port, bridge: 'lan' },
    );
    const directory = join(this.directory, name);
    await mkdir(directory);
    for (const file of ['ticket', 'ticket.sig', 'pieces', 'rootfs']) {
      await copyFile(join(this.directory, file), join(directory, file));
    }
    const full: NeighbourPlan = { port: PORT, directory, channel: 'production', cid: CID, ...plan };
    const child = namespace.spawn([process.execPath, NEIGHBOUR, JSON.stringify(full)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const neighbour = new Neighbour(child, member, () => this.#switch.setDown(port));
    await neighbour.until((event) => event.event === 'listening');
    return neighbour;
  }

  /** busybox's DHCP server on the segment. */
  async dhcp(): Promise<void> {
    const file = join(this.directory, 'udhcpd.conf');
    const leases = join(this.directory, 'leases');
    await writeFile(leases, '');
    const places = [`lease_file ${leases}`, `pidfile ${join(this.directory, 'udhcpd.pid')}`];
    const pool = ['start 10.88.0.100', 'end 10.88.0.120', 'option subnet 255.255.255.0', 'max_leases 20'];
    await writeFile(file, ['interface lan', ...pool, ...places, ''].join('\n'));
    this.#switch.spawn(['busybox', 'udhcpd', '-f', file], { stdio: 'ignore' });
  }

  /**
   * Boots the machine; `extra` goes on its kernel command line behind the neighbour list. Its first card leads nowhere:
   * BOOTIF names the second, as a boot loader does.
   */
  async boot(
    neighbours: readonly string[],
    extra: string,
    { signal }: { signal: AbortSignal },
  ): Promise<VirtualMachine> {
    const list = `bootmesh.channel=production bootmesh.neighbours=${neighbours.join(',')}`;
    const cmdline = `console=ttyS0 quiet BOOTIF=01-52-54-00-88-00-01 ${list} ${extra}`;
    return await startMachine(
      {
        name: 'guest',
        namespace: this.#switch.name,
        nics: [
          { tap: 'idle', mac: '52:54:00:88:00:02' },
          { tap: 'guest', mac: '52:54:00:88:00:01' },
        ],
        memoryMb: 512,
        serialLog: join(this.directory, 'serial.log'),
        boot: { kernel: this.kernel, initramfs: join(this.directory, 'initramfs'), cmdline },
      },
      { signal },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** A fake neighbour that runs: what it says, and the ways to lose it. */
export class Neighbour {
  readonly url: string;
  readonly url6: string;
  readonly events: NeighbourEvent[] = [];
  readonly #child: ChildProcess;
  readonly #setDown: () => Promise<void>;
  readonly #heard = new EventTarget();

  constructor(child: ChildProcess, member: number, setDown: () => Promise<void>) {
    this.url = `http://10.88.0.${member}:${PORT}`;
    this.url6 = `http://[fd88::${member}]:${PORT}`;
    this.#child = child;
    this.#setDown = setDown;
    if (child.stdout === null) throw new TypeError('a neighbour speaks on standard output');
    createInterface(child.stdout).on('line', (line) => {
      this.events.push(JSON.parse(line) as NeighbourEvent);
      this.#heard.dispatchEvent(new Event('event'));
    });
  }

  async until(wanted: (event: NeighbourEvent) => boolean): Promise<void> {
    const signal = AbortSignal.timeout(30_000);
    while (!this.events.some(wanted)) await once(this.#heard, 'event', { signal });
  }

  /** Ranges asked of its rootfs, in order. */
  get ranges(): string[] {
    return this.events.flatMap((event) => (event.event === 'request' && event.range ? [event.range] : []));
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Takes its cable out: nothing arrives any more, and nobody is told. */
  async unplug(): Promise<void> {
    await this.#setDown();
  }
}

function signify(directory: string, args: readonly string[]): void {
  execFileSync('signify-openbsd', args, { cwd: directory, stdio: 'pipe' });
}

function sha256(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}
