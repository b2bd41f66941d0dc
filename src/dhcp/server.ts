import { randomBytes, randomInt } from 'node:crypto';
import type { RemoteInfo } from 'node:dgram';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../observe/log.ts';
import { classify, type DhcpClient, hardwareText } from './client.ts';
import { broadcastAddress, sameSubnet } from './ipv4.ts';
import { LeaseBook, type LeaseNeighbours } from './lease-book.ts';
import type { Lease } from './lease-table.ts';
import { messageType, option, readAddress, readType } from './option.ts';
import { DhcpError, type DhcpPacket, decodeDhcp, encodeDhcp } from './packet.ts';
import { type BootFile, buildNak, buildReply, type LeaseGrant } from './reply.ts';
import { type DhcpRole, probeDiscover, Role, serverShown } from './role.ts';
import { type DhcpPort, DhcpSockets, type MissingPort } from './sockets.ts';
import { Turns } from './turns.ts';

/** The other nodes of the segment, as a DHCP server needs them. */
export interface DhcpNeighbours extends LeaseNeighbours {
  /** Peer ids of live nodes, this one included, that answer boot clients, or that give out addresses. */
  eligible(what: 'boot' | 'lease'): readonly string[];
}

/** An answer that went out. */
export interface DhcpAnswer {
  readonly mac: string;
  readonly kind: DhcpClient['kind'];
  readonly reply: 'offer' | 'ack' | 'nak';
  readonly role: DhcpRole;
  readonly address?: string;
  readonly file?: string;
  readonly rank: number;
  /** How often the client had asked before in vain. */
  readonly attempt: number;
}

export interface DhcpDeps {
  readonly log: Log;
  readonly self: string;
  readonly neighbours: DhcpNeighbours;
  /** What a boot client is to load from here, or undefined when this node has nothing for it and keeps silent. */
  readonly bootFile: (client: DhcpClient) => BootFile | undefined;
  readonly onAnswer: (answer: DhcpAnswer) => void;
  readonly onRole: (role: DhcpRole, foreign: string | undefined) => void;
}

export interface DhcpOptions {
  readonly mode: 'auto' | 'server' | 'proxy';
  readonly address: string;
  readonly netmask: string;
  /** First and last address, both included. */
  readonly pool?: { readonly from: string; readonly to: string } | undefined;
  readonly router?: string | undefined;
  readonly dns: readonly string[];
  readonly leaseSeconds: number;
  /** How long auto looks for other servers first, ms. */
  readonly discoveryMs: number;
  /** Where leases survive a restart. */
  readonly leaseFile: string;
}

/** Between two searches for other servers, ms. */
const PROBE_EVERY_MS = 30_000;
/** Log lines about bad messages and unsupported clients in one minute; the rest is only counted. */
const MAX_COMPLAINTS = 20;

/**
 * DHCP for one interface, as a server or as ProxyDHCP, together with the other nodes of the segment. Dispose writes
 * the leases down and closes the ports.
 */
export class DhcpServer implements AsyncDisposable {
  readonly #deps: DhcpDeps;
  readonly #options: DhcpOptions;
  readonly #role: Role;
  readonly #turns: Turns;
  readonly #ending = new AbortController();
  readonly #probeXid = randomInt(2 ** 32);
  readonly #probeMac = Uint8Array.from([0x02, ...randomBytes(5)]);
  #sockets: DhcpSockets | undefined;
  #leases: LeaseBook | undefined;
  #background: Promise<void>[] = [];
  #lastRole: string | undefined;
  #complaints = 0;
  #malformed = 0;

  private constructor(deps: DhcpDeps, options: DhcpOptions) {
    this.#deps = deps;
    this.#options = options;
    const { pool, mode, discoveryMs } = options;
    this.#role = new Role({ mode, discoveryMs, hasPool: pool !== undefined }, performance.now());
    this.#turns = new Turns({ self: deps.self });
  }

  /** Answers from now on, as far as the ports can be had; `missing` tells what cannot. */
  static async open(deps: DhcpDeps, options: DhcpOptions): Promise<DhcpServer> {
    const server = new DhcpServer(deps, options);
    const { pool, address, leaseSeconds, leaseFile } = options;
    if (pool !== undefined) {
      server.#leases = await LeaseBook.open(deps, { pool, address, leaseSeconds, file: leaseFile });
    }
    server.#sockets = await DhcpSockets.open(
      options.address,
      (bytes, port, from) => server.#receive(bytes, port, from),
      (error) => deps.log.warn('dhcp socket failed', { error }),
    );
    server.#background = [server.#lookForServers(), server.#housekeeping()];
    return server;
  }

  get missing(): readonly MissingPort[] {
    return this.#sockets?.missing ?? [];
  }

  /** False when the ports of DHCP could not be had at all. */
  get canServe(): boolean {
    return this.#sockets?.canServe ?? false;
  }

  get role(): DhcpRole {
    return this.#role.at(performance.now());
  }

  /** The DHCP server of somebody else that counts now, and whether this node saw it itself. */
  get foreignServer(): string | undefined {
    return this.#role.foreign(performance.now());
  }

  get foreignServerSeen(): string | undefined {
    return this.#role.foreignSeen(performance.now());
  }

  /** Messages dropped because they were no DHCP. */
  get malformed(): number {
    return this.#malformed;
  }

  get leases(): readonly Lease[] {
    return this.#leases?.bound() ?? [];
  }

  /** A few leases for the next heartbeat. */
  nextLeases(count: number): Lease[] {
    return this.#leases?.nextTurn(count) ?? [];
  }

  /** Another node answers this client. */
  claimed(claim: { readonly xid: number; readonly chaddr: Uint8Array; readonly lease?: Lease | undefined }): void {
    this.#turns.claimed(hardwareText(claim.chaddr), claim.xid);
    if (claim.lease !== undefined) this.adopt(claim.lease);
  }

  /** Another node granted a lease, or took it back (when it is over already). */
  adopt(lease: Lease): void {
    this.#leases?.adopt(lease);
  }

  /** A neighbour saw a foreign DHCP server. */
  heardOfForeign(address: string): void {
    if (!this.#isForeign(address)) return;
    this.#role.heardOfForeign(address, performance.now());
    this.#tellRole();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    this.#turns[Symbol.dispose]();
    await this.#sockets?.[Symbol.asyncDispose]();
    await Promise.all(this.#background);
    await this.#leases?.save();
  }

  #receive(bytes: Uint8Array, port: DhcpPort, from: RemoteInfo): void {
    try {
      const packet = decodeDhcp(bytes);
      const shown = serverShown(packet);
      if (shown !== undefined && this.#isForeign(shown)) {
        this.#role.sawForeign(shown, performance.now());
        this.#tellRole();
      }
      if (packet.op === 1 && port !== 'client') this.#answer(packet, port, from);
    } catch (error) {
      if (!(error instanceof DhcpError)) throw error;
      this.#malformed += 1;
      this.#complain('dhcp message refused', { code: error.code, reason: error.message, from: from.address });
    }
  }

  #answer(packet: DhcpPacket, port: DhcpPort, from: RemoteInfo): void {
    const client = classify(packet);
    if (client.kind === 'probe' || packet.chaddr.length === 0) return;
    const type = readType(packet);
    if (port === 'pxe') this.#answerPxe(packet, client, from);
    else if (type === messageType.discover) this.#discover(packet, client);
    else this.#answerHolder(packet, client, port === 'unicast');
  }

  /** What clients say that have, or had, or chose an address. */
  #answerHolder(packet: DhcpPacket, client: DhcpClient, unicast: boolean): void {
    const type = readType(packet);
    if (this.role !== 'server' || this.#leases === undefined) return;
    if (type === messageType.request) this.#request(packet, client, unicast);
    else if (type === messageType.inform) this.#inform(packet, client);
    else if (type === messageType.decline) this.#decline(packet, client);
    else if (type === messageType.release) this.#leases.release(packet.ciaddr, client.mac);
  }

  /** Port 4011 is asked by firmware that already has an address; only what is unicast to this node arrives here. */
  #answerPxe(packet: DhcpPacket, client: DhcpClient, from: RemoteInfo): void {
    const boot = client.kind === 'plain' ? undefined : this.#bootFile(client);
    if (boot === undefined) return;
    const facts = { type: messageType.ack, server: this.#options.address, rank: 0, boot } as const;
    this.#sockets?.send('pxe', encodeDhcp(buildReply(packet, client, facts)), from.port, from.address);
    this.#tell(client, { reply: 'ack', rank: 0, attempt: 0, ...fileOf(boot) });
  }

  #discover(packet: DhcpPacket, client: DhcpClient): void {
    const role = this.role;
    const boots = client.kind !== 'plain';
    if (role === 'undecided' || (role === 'proxy' && !boots)) return;
    const boot = boots ? this.#bootFile(client) : undefined;
    if (boots && boot === undefined) return;
    const eligible = this.#deps.neighbours.eligible(boots ? 'boot' : 'lease');
    const stage = `discover-${client.kind}`;
    this.#turns.take({ mac: client.mac, key: client.key, xid: packet.xid, stage, eligible }, (turn) => {
      if (role === 'server') void this.#offerAddress(packet, client, boot, turn).catch((error) => this.#failed(error));
      else this.#offer(packet, client, { boot, turn });
    });
  }

  async #offerAddress(packet: DhcpPacket, client: DhcpClient, boot: BootFile | undefined, turn: Turn): Promise<void> {
    const address = await this.#leases?.find(packet, client.mac, { signal: this.#ending.signal });
    if (address === undefined) return this.#complain('dhcp pool is full', { mac: client.mac });
    this.#offer(packet, client, { boot, turn, address });
  }

  #offer(
    packet: DhcpPacket,
    client: DhcpClient,
    { boot, turn, address }: { boot: BootFile | undefined; turn: Turn; address?: string },
  ): void {
    if (address === undefined) this.#deps.neighbours.claim({ xid: packet.xid, chaddr: packet.chaddr });
    const lease = address === undefined ? undefined : this.#grant(address);
    const facts = { type: messageType.offer, server: this.#options.address, rank: turn.rank, boot, lease } as const;
    this.#send(packet, buildReply(packet, client, facts));
    this.#tell(client, { reply: 'offer', ...turn, ...(address === undefined ? {} : { address }), ...fileOf(boot) });
  }

  /** RFC 2131 section 4.3.2, by the state that the client is in. */
  #request(packet: DhcpPacket, client: DhcpClient, unicast: boolean): void {
    const chosen = readAddress(packet, option.serverIdentifier);
    const wanted = readAddress(packet, option.requestedAddress) ?? packet.ciaddr;
    if (chosen !== undefined && chosen !== this.#options.address) return;
    if (chosen !== undefined || unicast) {
      this.#acknowledge(packet, client, wanted, { rank: 0, attempt: 0 });
      return;
    }
    const known = this.#leases?.of(client.mac);
    const renews = packet.ciaddr !== '0.0.0.0';
    // INIT-REBOOT of a client we know nothing of: silence, except that a wrong network has to be told (RFC 2131).
    if (!renews && known === undefined && this.#onSegment(wanted)) return;
    const eligible = this.#deps.neighbours.eligible('lease');
    this.#turns.take({ mac: client.mac, key: client.key, xid: packet.xid, stage: 'request', eligible }, (turn) => {
      this.#deps.neighbours.claim({ xid: packet.xid, chaddr: packet.chaddr });
      this.#acknowledge(packet, client, wanted, turn);
    });
  }

  #acknowledge(packet: DhcpPacket, client: DhcpClient, wanted: string, turn: Turn): void {
    const server = this.#options.address;
    if (this.#leases?.bind(client.mac, wanted) === undefined) {
      this.#send(packet, buildNak(packet, server, `${wanted} is not yours`));
      this.#tell(client, { reply: 'nak', address: wanted, ...turn });
      return;
    }
    const boot = client.kind === 'plain' ? undefined : this.#bootFile(client);
    const facts = { type: messageType.ack, server, rank: turn.rank, boot, lease: this.#grant(wanted) } as const;
    this.#send(packet, buildReply(packet, client, facts));
    this.#tell(client, { reply: 'ack', address: wanted, ...turn, ...fileOf(boot) });
  }

  #inform(packet: DhcpPacket, client: DhcpClient): void {
    if (!this.#onSegment(packet.ciaddr)) return;
    const eligible = this.#deps.neighbours.eligible('lease');
    this.#turns.take({ mac: client.mac, key: client.key, xid: packet.xid, stage: 'inform', eligible }, ({ rank }) => {
      const boot = client.kind === 'plain' ? undefined : this.#bootFile(client);
      const lease = this.#grant('0.0.0.0');
      const facts = { type: messageType.ack, server: this.#options.address, rank, boot, lease } as const;
      this.#send(packet, buildReply(packet, client, facts));
    });
  }

  #decline(packet: DhcpPacket, client: DhcpClient): void {
    const address = readAddress(packet, option.requestedAddress);
    if (address === undefined || this.#leases?.of(client.mac)?.address !== address) return;
    this.#leases.decline(address, client.mac, 'its client declined it');
  }

  #bootFile(client: DhcpClient): BootFile | undefined {
    const { architecture, mac } = client;
    if (architecture?.firstStage === undefined) {
      this.#complain('boot client has an unsupported architecture', {
        mac,
        architecture: architecture?.name,
        code: architecture?.code,
      });
      return undefined;
    }
    return this.#deps.bootFile(client);
  }

  /** RFC 2131 section 4.1, but never unicast to an address the client does not have yet: Node cannot fill in ARP. */
  #send(request: DhcpPacket, reply: DhcpPacket): void {
    const bytes = encodeDhcp(reply);
    const nak = readType(reply) === messageType.nak;
    if (request.giaddr !== '0.0.0.0') this.#sockets?.send('unicast', bytes, 67, request.giaddr);
    else if (request.ciaddr !== '0.0.0.0' && !nak) this.#sockets?.send('unicast', bytes, 68, request.ciaddr);
    else this.#sockets?.send('unicast', bytes, 68, '255.255.255.255');
  }

  #grant(address: string): LeaseGrant {
    const { netmask, router, dns, leaseSeconds, address: own } = this.#options;
    return { address, netmask, router, dns, seconds: leaseSeconds, broadcast: broadcastAddress(own, netmask) };
  }

  #isForeign(address: string): boolean {
    return address !== this.#options.address && !this.#deps.neighbours.isMember(address);
  }

  #onSegment(address: string): boolean {
    return sameSubnet(address, this.#options.address, this.#options.netmask);
  }

  #tell(client: DhcpClient, answer: Omit<DhcpAnswer, 'mac' | 'kind' | 'role'>): void {
    this.#deps.onAnswer({ mac: client.mac, kind: client.kind, role: this.role, ...answer });
  }

  #tellRole(): void {
    const role = this.role;
    const foreign = this.foreignServer;
    if (this.#lastRole === `${role} ${foreign}`) return;
    this.#lastRole = `${role} ${foreign}`;
    this.#deps.onRole(role, foreign);
  }

  #complain(sentence: string, fields: Readonly<Record<string, unknown>>): void {
    this.#complaints += 1;
    if (this.#complaints <= MAX_COMPLAINTS) this.#deps.log.warn(sentence, fields);
  }

  #failed(error: unknown): void {
    if (!this.#ending.signal.aborted) this.#deps.log.error('dhcp answer failed', { error });
  }

  /** Thrice while undecided, then now and again: a server that is switched on later must be seen as well. */
  async #lookForServers(): Promise<void> {
    const { mode, discoveryMs } = this.#options;
    if (mode === 'server') return;
    const { signal } = this.#ending;
    const probe = encodeDhcp(probeDiscover(this.#probeMac, this.#probeXid));
    for (let sent = 1; !signal.aborted; sent++) {
      this.#sockets?.send('unicast', probe, 67, '255.255.255.255');
      await pause(sent < 3 ? discoveryMs / 3 : PROBE_EVERY_MS, signal);
    }
  }

  async #housekeeping(): Promise<void> {
    const { signal } = this.#ending;
    for (let seconds = 0; !signal.aborted; seconds++) {
      if (seconds % 60 === 0) this.#complaints = 0;
      this.#tellRole();
      await this.#leases?.save();
      await pause(1000, signal);
    }
  }
}

interface Turn {
  readonly rank: number;
  readonly attempt: number;
}

function fileOf(boot: BootFile | undefined): { file?: string } {
  if (boot === undefined) return {};
  return { file: 'url' in boot ? boot.url : boot.name };
}

/** Returns when the time is over or the signal aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => {});
}
