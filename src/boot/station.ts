import { join } from 'node:path';
import { type DhcpClient, hardwareText } from '../dhcp/client.ts';
import { addressNumber, addressText } from '../dhcp/ipv4.ts';
import type { Lease } from '../dhcp/lease-table.ts';
import type { BootFile } from '../dhcp/reply.ts';
import { type DhcpAnswer, type DhcpNeighbours, DhcpServer } from '../dhcp/server.ts';
import type { Log } from '../observe/log.ts';
import { interfaceAddresses, type SegmentInterface } from './interface.ts';
import type { HeldRelease, Neighbour } from './neighbours.ts';
import type { CheckedBootOptions } from './options.ts';
import { Segment, type SegmentDeps } from './segment.ts';
import { type Lease as LeaseMessage, Role } from './segment_pb.ts';
import { type PublishedFiles, type TftpEvent, TftpServer } from './tftp-server.ts';

export interface StationDeps extends Pick<SegmentDeps, 'identity' | 'membership'> {
  readonly log: Log;
  readonly name: string;
  readonly dataDirectory: string;
  /** The release that this node boots machines with, when it holds it completely. */
  readonly held: () => HeldRelease | undefined;
  readonly load: () => number;
  readonly bootFile: (client: DhcpClient) => BootFile | undefined;
  readonly files: PublishedFiles;
  readonly onTransfer: (event: TftpEvent) => void;
  readonly onAnswer: (answer: DhcpAnswer) => void;
}

/** Leases in one heartbeat: about 20 bytes each. */
const LEASES_PER_BEAT = 16;
/** What options allow; a neighbour's word for longer is cut. */
const MAX_LEASE_SECONDS = 2_592_000;

/** Everything that listens on the segment, for as long as its interface keeps its addresses. */
export class Station implements AsyncDisposable {
  readonly interface: SegmentInterface;
  /** What this node cannot do on the segment, and what it would need. */
  readonly missing: string[] = [];
  readonly #deps: StationDeps;
  readonly #options: CheckedBootOptions;
  readonly #stack = new AsyncDisposableStack();
  #segment: Segment | undefined;
  #dhcp: DhcpServer | undefined;

  private constructor(deps: StationDeps, options: CheckedBootOptions, face: SegmentInterface) {
    this.#deps = deps;
    this.#options = options;
    this.interface = face;
  }

  /** Opens what can be opened. */
  static async open(deps: StationDeps, options: CheckedBootOptions, face: SegmentInterface): Promise<Station> {
    const station = new Station(deps, options, face);
    try {
      await station.#start();
      return station;
    } catch (error) {
      await station.#stack.disposeAsync();
      throw error;
    }
  }

  get dhcp(): DhcpServer | undefined {
    return this.#dhcp;
  }

  neighbours(): Neighbour[] {
    return this.#segment?.neighbours() ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #start(): Promise<void> {
    const { identity, membership, log } = this.#deps;
    const deps = { log, identity, membership, heartbeat: () => this.#heartbeat() };
    const segment = await Segment.open(deps, { interface: this.interface });
    this.#segment = this.#stack.use(segment);
    segment.on('neighbour:join', ({ peerId, name }) =>
      log.info('neighbour joined the segment', { peer: peerId, name }),
    );
    segment.on('neighbour:leave', ({ peerId, name }) => log.info('neighbour left the segment', { peer: peerId, name }));
    const { ipv4, name } = this.interface;
    if (ipv4 === undefined) {
      this.missing.push(`an IPv4 address on ${name}: DHCP and TFTP wait for it`);
      return;
    }
    await this.#openTftp(ipv4.address);
    await this.#openDhcp(ipv4);
  }

  async #openTftp(address: string): Promise<void> {
    const { log, files, onTransfer } = this.#deps;
    try {
      this.#stack.use(await TftpServer.open({ log, files, onTransfer }, { address }));
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const need = code === 'EACCES' ? 'CAP_NET_BIND_SERVICE to open UDP port 69' : `UDP port 69: ${message}`;
      this.missing.push(need);
    }
  }

  async #openDhcp({ address, netmask }: { readonly address: string; readonly netmask: string }): Promise<void> {
    const { mode, pool, router, dns, leaseSeconds, discoveryMs } = this.#options;
    const segment = this.#segment;
    if (mode === 'off' || segment === undefined) return;
    const { log, identity, bootFile, onAnswer, dataDirectory } = this.#deps;
    const dhcp = await DhcpServer.open(
      {
        log,
        bootFile,
        onAnswer,
        self: identity.peerId,
        neighbours: this.#dhcpNeighbours(segment),
        onRole: (role, foreign) => {
          log.info('dhcp role', { role, foreign });
          segment.beat();
        },
      },
      {
        mode,
        address,
        netmask,
        pool,
        router,
        dns,
        leaseSeconds,
        discoveryMs,
        leaseFile: join(dataDirectory, 'boot', 'leases.json'),
      },
    );
    this.#dhcp = this.#stack.use(dhcp);
    this.missing.push(...dhcp.missing.map(({ need }) => need));
    segment.on('claim:hear', ({ xid, hardware, lease }) => {
      dhcp.claimed({ xid, chaddr: hardware, lease: lease && readLease(lease, 'offered') });
    });
    segment.on('lease:hear', (lease) => dhcp.adopt(readLease(lease, 'bound')));
    segment.on('neighbour:beat', ({ leases, foreignServer }) => {
      for (const lease of leases) dhcp.adopt(readLease(lease, 'bound'));
      if (foreignServer !== '') dhcp.heardOfForeign(foreignServer);
    });
  }

  #dhcpNeighbours(segment: Segment): DhcpNeighbours {
    return {
      eligible: (what) => {
        const others = segment.neighbours().filter((one) => (what === 'boot' ? one.answering : one.role === 'server'));
        const self = what === 'boot' ? this.#answering() : this.#dhcp?.role === 'server';
        return [...others.map(({ peerId }) => peerId), ...(self ? [this.#deps.identity.peerId] : [])];
      },
      isMember: (address) => segment.wasMember(address),
      claim: ({ xid, chaddr, lease }) => {
        segment.claim({ xid, hardware: chaddr, ...(lease === undefined ? {} : { lease: writeLease(lease) }) });
      },
      announceLease: (lease) => segment.announceLease(writeLease(lease)),
    };
  }

  #answering(): boolean {
    if (!this.#dhcp?.canServe || this.#dhcp.role === 'undecided') return false;
    return this.#deps.held() !== undefined && this.#deps.load() < this.#options.maxLoad;
  }

  #heartbeat(): ReturnType<SegmentDeps['heartbeat']> {
    const held = this.#deps.held();
    const role = this.#dhcp?.role;
    return {
      name: this.#deps.name,
      addresses: interfaceAddresses(this.interface).slice(0, 8),
      gatewayPort: this.#options.gatewayPort,
      releases: held === undefined ? [] : [writeRelease(held)],
      load: this.#deps.load(),
      answering: this.#answering(),
      role: role === 'server' ? Role.SERVER : role === 'proxy' ? Role.PROXY : Role.UNSPECIFIED,
      foreignServer: this.#dhcp?.foreignServerSeen ?? '',
      leases: (this.#dhcp?.nextLeases(LEASES_PER_BEAT) ?? []).map(writeLease),
    };
  }
}

function writeRelease({ channel, version, digest }: HeldRelease) {
  return { channel, version, digest: Buffer.from(digest, 'hex') };
}

function writeLease({ address, mac, expiresAt }: Lease) {
  const seconds = Math.max(0, Math.round((expiresAt - Date.now()) / 1000));
  return { address: addressNumber(address), hardware: Buffer.from(mac.replaceAll(':', ''), 'hex'), seconds };
}

function readLease({ address, hardware, seconds }: LeaseMessage, state: 'offered' | 'bound'): Lease {
  return {
    state,
    address: addressText(address),
    mac: hardwareText(hardware.subarray(0, 16)),
    expiresAt: seconds === 0 ? 0 : Date.now() + Math.min(seconds, MAX_LEASE_SECONDS) * 1000,
  };
}
