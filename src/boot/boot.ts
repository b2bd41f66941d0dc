import { setTimeout as delay } from 'node:timers/promises';
import { arpOwner } from '../dhcp/address-probe.ts';
import type { DhcpClient } from '../dhcp/client.ts';
import type { Lease } from '../dhcp/lease-table.ts';
import type { BootFile } from '../dhcp/reply.ts';
import type { DhcpRole } from '../dhcp/role.ts';
import type { Log } from '../observe/log.ts';
import { readInterface, type SegmentInterface } from './interface.ts';
import { type IpxeFiles, loadIpxe } from './ipxe-files.ts';
import type { Neighbour } from './neighbours.ts';
import { type BootMode, type BootOptions, type CheckedBootOptions, checkBootOptions } from './options.ts';
import { type BootRelease, type BootReleases, releaseArtifacts } from './release.ts';
import { baseUrl } from './script.ts';
import { type BootRoute, scriptRoute } from './script-route.ts';
import type { SegmentIdentity } from './segment-message.ts';
import { Station, type StationDeps } from './station.ts';
import type { TftpEvent } from './tftp-server.ts';
import { type BootEvent, Timeline } from './timeline.ts';

export interface BootDeps {
  readonly log: Log;
  /** The node's key; heartbeats to the segment are signed by it. */
  readonly identity: SegmentIdentity;
  /** Who belongs to the fleet. */
  readonly membership: { member(peerId: string): object | undefined };
  readonly releases: BootReleases;
  /** The node's name, as neighbours show it. */
  readonly name: string;
  /** The node's data directory; leases are kept in `boot/leases.json` below it. */
  readonly dataDirectory: string;
}

export interface BootStatus {
  readonly mode: BootMode;
  readonly interface: string;
  /** This node's address on the segment. */
  readonly address: string | undefined;
  readonly role: DhcpRole | 'off';
  readonly foreignServer: string | undefined;
  /** What this node cannot do, and what it would need for it. */
  readonly missing: readonly string[];
  /** The release that it boots machines with, when it holds it completely. */
  readonly release: { readonly channel: string; readonly version: number } | undefined;
  /** Boots in progress. */
  readonly load: number;
  readonly neighbours: readonly Neighbour[];
  readonly leases: readonly Lease[];
  /** The last things that happened, oldest first. */
  readonly events: readonly BootEvent[];
}

/** How often the interface is looked at: it may come up late, or change its address. */
const INTERFACE_EVERY_MS = 2000;

/**
 * Starts booting the segment's bare machines. Missing privileges, a taken port, an absent interface or absent iPXE
 * binaries do not stop the agent: they are logged, and named in `status().missing`.
 * @throws BootOptionsError when options contradict each other
 */
export async function createBoot(deps: BootDeps, options: BootOptions): Promise<Boot> {
  return Boot.open(deps, checkBootOptions(options));
}

/** Takes bare machines from DHCP to a running kernel. Dispose closes every port. */
export class Boot implements AsyncDisposable {
  /** For the gateway. */
  readonly routes: readonly BootRoute[];
  readonly #deps: BootDeps;
  readonly #options: CheckedBootOptions;
  readonly #ipxe: IpxeFiles;
  readonly #timeline: Timeline;
  readonly #ending = new AbortController();
  #station: Station | undefined;
  #watching: Promise<void> = Promise.resolve();

  private constructor(deps: BootDeps, options: CheckedBootOptions, ipxe: IpxeFiles) {
    this.#deps = deps;
    this.#options = options;
    this.#ipxe = ipxe;
    this.#timeline = new Timeline(deps.log);
    this.routes = [
      scriptRoute({
        self: { peerId: deps.identity.peerId, gatewayPort: options.gatewayPort },
        held: (channel) => this.#held(channel),
        interface: () => this.#station?.interface,
        neighbours: () => this.#station?.neighbours() ?? [],
        onScript: (mac, facts) => this.#timeline.add('boot:script', mac, facts),
      }),
    ];
  }

  /** Use `createBoot`, which checks the options. */
  static async open(deps: BootDeps, options: CheckedBootOptions): Promise<Boot> {
    const ipxe = await loadIpxe(options.ipxe);
    const boot = new Boot(deps, options, ipxe);
    if (options.mode === 'off') return boot;
    for (const what of ipxe.missing) deps.log.warn('boot lacks an iPXE binary', { missing: what });
    await boot.#follow(readInterface(options.interface));
    boot.#watching = boot.#watch();
    return boot;
  }

  /** Nodes of the segment whose heartbeats arrive. */
  neighbours(): readonly Neighbour[] {
    return this.#station?.neighbours() ?? [];
  }

  status(): BootStatus {
    const { mode, interface: name, channel } = this.#options;
    const station = this.#station;
    const held = this.#held(channel);
    const absent = mode !== 'off' && station === undefined ? [`an address on the interface ${name}`] : [];
    return {
      mode,
      interface: name,
      address: station?.interface.ipv4?.address ?? station?.interface.ipv6[0],
      role: station?.dhcp?.canServe ? station.dhcp.role : 'off',
      foreignServer: station?.dhcp?.foreignServer,
      missing: mode === 'off' ? [] : [...absent, ...(station?.missing ?? []), ...this.#ipxe.missing],
      release: held && { channel: held.channel, version: held.version },
      load: this.#timeline.load,
      neighbours: this.neighbours(),
      leases: station?.dhcp?.leases ?? [],
      events: this.#timeline.events,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#watching;
    await this.#station?.[Symbol.asyncDispose]();
  }

  /** A release only counts when this node could serve all of it, alone. */
  #held(channel: string): BootRelease | undefined {
    const release = this.#deps.releases.current(channel, 'x86_64');
    if (release === undefined) return undefined;
    const complete = [...releaseArtifacts(release).values()].every(({ cid }) => this.#deps.releases.holds(cid));
    return complete ? release : undefined;
  }

  async #watch(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      await delay(INTERFACE_EVERY_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      const face = readInterface(this.#options.interface);
      if (JSON.stringify(face) !== JSON.stringify(this.#station?.interface)) await this.#follow(face);
    }
  }

  /** Closes what listened on the interface as it was, and listens on it as it is. */
  async #follow(face: SegmentInterface | undefined): Promise<void> {
    const { log } = this.#deps;
    await this.#station?.[Symbol.asyncDispose]();
    this.#station = undefined;
    if (face === undefined) {
      log.warn('boot waits for its interface', { interface: this.#options.interface });
      return;
    }
    try {
      this.#station = await Station.open(this.#stationDeps(), this.#options, face);
    } catch (error) {
      log.warn('boot cannot listen on its interface', { interface: face.name, error });
      return;
    }
    for (const missing of this.#station.missing) log.warn('boot lacks something', { missing });
    const { mode, channel } = this.#options;
    log.info('boot listens', { interface: face.name, address: face.ipv4?.address ?? face.ipv6[0], mode, channel });
  }

  #stationDeps(): StationDeps {
    const { log, identity, membership, name, dataDirectory } = this.#deps;
    return {
      log,
      identity,
      membership,
      name,
      dataDirectory,
      held: () => this.#held(this.#options.channel),
      load: () => this.#timeline.load,
      bootFile: (client) => this.#bootFile(client),
      files: (file) => this.#ipxe.files.get(file) ?? this.#scriptFile(file),
      onTransfer: (event) => void this.#tellTransfer(event),
      onAnswer: ({ mac, ...facts }) => this.#timeline.add('boot:dhcp', mac, facts),
    };
  }

  /** What a client loads from here next; nothing while this node holds no complete release. */
  #bootFile({ kind, mac, architecture }: DhcpClient): BootFile | undefined {
    const url = this.#scriptUrl();
    if (url === undefined || this.#held(this.#options.channel) === undefined) return undefined;
    if (kind === 'ipxe') return { url: `${url}?mac=${mac.replaceAll(':', '-')}` };
    const name = architecture?.firstStage;
    return kind === 'pxe' && name !== undefined && this.#ipxe.files.has(name) ? { name } : undefined;
  }

  #scriptUrl(): string | undefined {
    const address = this.#station?.interface.ipv4?.address;
    const { gatewayPort, channel } = this.#options;
    return address === undefined ? undefined : `${baseUrl({ address, gatewayPort })}/boot/${channel}.ipxe`;
  }

  /** `autoexec.ipxe` is what unmodified iPXE builds look for beside themselves. */
  #scriptFile(file: string): Uint8Array | undefined {
    const url = this.#scriptUrl();
    if (url === undefined || (file !== 'autoexec.ipxe' && file !== `${this.#options.channel}.ipxe`)) return undefined;
    return Buffer.from(`#!ipxe\nisset \${ip} || dhcp || reboot\nchain --replace ${url}?mac=\${mac} || reboot\n`);
  }

  /** TFTP knows addresses only; who has one, the kernel has just learnt by ARP. */
  async #tellTransfer({ client, ...facts }: TftpEvent): Promise<void> {
    this.#timeline.add('boot:tftp', (await arpOwner(client)) ?? client, { client, ...facts });
  }
}
