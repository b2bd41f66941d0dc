import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import type { OverlayLine, OverlayPeerLine } from '../admin/results.ts';
import type { Certified, Membership } from '../enrolment/membership.ts';
import { MAX_PLACES } from '../fleet/binding.ts';
import type { Certificate } from '../fleet/certificate.ts';
import { fleetNetwork, siteNetwork } from '../fleet/overlay-address.ts';
import { CommandFailed } from '../host/command.ts';
import type { Log } from '../observe/log.ts';
import { parseCidr } from '../overlay/cidr.ts';
import type { InterfaceDump } from '../overlay/dump.ts';
import { inOrderOfReach } from '../overlay/endpoint-order.ts';
import type { ImportedNetwork } from '../overlay/imported-network.ts';
import { OverlayUnavailable } from '../overlay/interface.ts';
import type { SecretKey, WireGuardNetwork } from '../overlay/network.ts';
import { Overlay } from '../overlay/overlay.ts';
import { type OverlayMember, type PlannedPeer, planPeers } from '../overlay/peer-plan.ts';
import { isAlive } from '../overlay/session.ts';
import type { Config } from './config.ts';
import { DirectWays, type Exchanging } from './direct-ways.ts';

interface Deps {
  readonly config: Pick<Config, 'overlay'>;
  readonly membership: Membership;
  readonly log: Log;
}

/** How what is exchanged with a member travels. */
export interface MemberPath {
  /** overlay: from our WireGuard interface to the member's; gateway: through that of another. */
  readonly path: 'overlay' | 'gateway';
  /** The gateway's name. */
  readonly via?: string;
}

/** What is forwarded to a node, where something is. */
const USUAL_PORT = 51820;
const OWN_PORTS = 4096;
/** A laptop is mostly behind some NAT. */
const DEVICE_KEEPALIVE_S = 25;

/**
 * The WireGuard interface of a member, true to who belongs to the fleet. Where it cannot be made, the node goes on
 * without, and says so.
 */
export class FleetOverlay implements AsyncDisposable {
  readonly #deps: Deps;
  readonly #fleetId: Buffer;
  #overlay: Overlay | undefined;
  #missing: string | undefined;
  /** Undefined until the swarm is there. */
  #ways: DirectWays | undefined;
  #planned: readonly PlannedPeer[] = [];

  private constructor(deps: Deps, fleetId: Buffer) {
    this.#deps = deps;
    this.#fleetId = fleetId;
  }

  /** Undefined where none is wanted, or this node has no certificate. */
  static async open(deps: Deps): Promise<FleetOverlay | undefined> {
    const { config, membership, log } = deps;
    const { own, certified } = membership;
    const { mode, interface: name, mtu, keepalive } = config.overlay;
    if (mode === 'off') return undefined;
    if (own === undefined || certified === undefined) {
      log.warn('no overlay: this node has no certificate', { advice: 'join a fleet: bootmesh join TOKEN' });
      return undefined;
    }
    const fleetId = Buffer.from(certified.members.trust.fleetId, 'hex');
    const overlay = new FleetOverlay(deps, fleetId);
    const options = {
      ...{ name, driver: mode, port: overlay.#port, mtu },
      keepalive: { near: 0, far: keepalive },
      key: certified.wireguardKey.file,
      publicKey: certified.wireguardKey.publicKey,
      addresses: [`${own.address}/128`],
      routes: [fleetNetwork(fleetId)],
    };
    try {
      overlay.#overlay = await Overlay.open(
        {
          plan: (dump) => overlay.#plan(dump),
          isGateway: () => membership.own?.roles.includes('gateway') === true,
          log: log.with({ room: 'overlay' }),
        },
        options,
      );
    } catch (error) {
      if (!(error instanceof OverlayUnavailable) && !(error instanceof CommandFailed)) throw error;
      overlay.#missing = error.message;
      log.error('no overlay: this node is reached on its segment alone', { error });
    }
    return overlay;
  }

  /** From now on those that the swarm exchanges with are met directly where that can be, and lost gateways are known. */
  follow(swarm: Exchanging): void {
    this.#ways = new DirectWays({ ...this.#deps, swarm, onNews: () => this.update() });
    this.update();
  }

  /** Undefined for members that are not reached by the overlay. */
  pathTo(peerId: string): MemberPath | undefined {
    const member = this.#deps.membership.certified?.members.member(peerId);
    if (member === undefined || this.#overlay === undefined) return undefined;
    const having = (block: string) => this.#planned.find(({ allowedIps }) => allowedIps.includes(block));
    if (having(`${member.address}/128`)?.publicKey === member.wireguardKey) return { path: 'overlay' };
    const number = this.#deps.membership.certified?.members.trust.sites[member.site];
    const carrier = number === undefined ? undefined : having(siteNetwork(this.#fleetId, number));
    if (carrier === undefined) return undefined;
    const via = this.#byKey().get(carrier.publicKey)?.name;
    return { path: 'gateway', ...(via !== undefined && { via }) };
  }

  /** The /48 of the fleet. */
  get network(): string {
    return fleetNetwork(this.#fleetId);
  }

  /** What goes through WireGuard. */
  get blocks(): string[] {
    return [this.network];
  }

  /** There is an interface. */
  get up(): boolean {
    return this.#overlay !== undefined;
  }

  /** An address of the overlay itself. */
  isInside(address: string): boolean {
    const [network, one] = [parseCidr(this.network), parseCidr(address)];
    return network?.bits === one?.bits && network !== undefined && one !== undefined && within(one.first, network);
  }

  /** Where other members may send WireGuard's packets: what is configured, then this machine's own addresses. */
  endpoints(): string[] {
    if (this.#overlay === undefined) return [];
    const port = this.#port;
    const own = this.#interfaces()
      .toSorted((a, b) => a.family.localeCompare(b.family))
      .map(({ address, family }) => (family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`));
    return [...new Set([...this.#deps.config.overlay.endpoints, ...own])].slice(0, MAX_PLACES);
  }

  /** Somebody joined, left or moved. */
  update(): void {
    this.#overlay?.update();
  }

  async status(): Promise<OverlayLine> {
    if (this.#overlay === undefined)
      return { state: 'missing', ...(this.#missing !== undefined && { why: this.#missing }) };
    const { peers, ...facts } = await this.#overlay.status();
    const members = this.#byKey();
    const lines = peers.map((peer): OverlayPeerLine => {
      const { publicKey, handshakeAt, ...rest } = peer;
      const member = members.get(publicKey);
      const carries = this.#sitesBehind(peer.allowedIps);
      return {
        ...(member && { name: member.name, site: member.site, peerId: member.peerId }),
        publicKey,
        ...rest,
        ...(handshakeAt !== undefined && { handshakeAt: new Date(handshakeAt * 1000).toISOString() }),
        path: !isAlive(peer) ? 'none' : member?.site === this.#deps.membership.own?.site ? 'lan' : 'direct',
        ...(carries.length > 0 && { carries }),
      };
    });
    return { state: 'up', ...facts, peers: lines };
  }

  /**
   * What a device without an agent needs to be in the overlay: the gateway that it knows, and all others behind that.
   * Undefined when the fleet has no gateway that has said where it is.
   * @param at where the device reaches the gateway, when that is none of what the gateway says
   */
  networkOf(device: Certificate, privateKey: SecretKey, at?: string): WireGuardNetwork | undefined {
    const { certified } = this.#deps.membership;
    if (certified === undefined) return undefined;
    const [gateway] = this.#planFor(device, certified, []);
    const endpoint = at ?? gateway?.endpoints[0];
    if (gateway === undefined || endpoint === undefined) return undefined;
    const { publicKey } = gateway;
    return {
      interface: {
        addresses: [`${device.address}/128`],
        mtu: this.#deps.config.overlay.mtu,
        publicKey: privateKey.publicKey(),
        privateKey,
      },
      // Sites that are new tomorrow are behind it as well.
      peers: [{ publicKey, endpoint, allowedIps: [this.network], persistentKeepalive: DEVICE_KEEPALIVE_S }],
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ways?.[Symbol.dispose]();
    await this.#overlay?.[Symbol.asyncDispose]();
  }

  /**
   * A NAT that does not have to tell two nodes apart leaves their ports as they are, and one that keeps ports can be
   * met from both sides: so each node has its own, which follows from its key.
   */
  get #port(): number {
    const { port, endpoints } = this.#deps.config.overlay;
    if (port !== undefined) return port;
    if (endpoints.length > 0) return USUAL_PORT;
    const key = Buffer.from(this.#deps.membership.certified?.wireguardKey.publicKey ?? '', 'base64');
    return USUAL_PORT + (key.length < 2 ? 0 : key.readUInt16BE(0) % OWN_PORTS);
  }

  #plan(dump: InterfaceDump): readonly PlannedPeer[] {
    const { own, certified } = this.#deps.membership;
    if (own === undefined || certified === undefined) return [];
    const around = this.#interfaces().flatMap(({ cidr }) => cidr ?? []);
    const plan = this.#planFor(own, certified, around);
    this.#planned = [...plan, ...(this.#ways?.look(plan, around, dump) ?? [])];
    return this.#planned;
  }

  #sitesBehind(blocks: readonly string[]): string[] {
    const sites = Object.entries(this.#deps.membership.certified?.members.trust.sites ?? {});
    return sites.flatMap(([site, number]) => (blocks.includes(siteNetwork(this.#fleetId, number)) ? [site] : []));
  }

  /** @param around networks that the node is on */
  #planFor(own: Certificate, { members }: Certified, around: readonly string[]): PlannedPeer[] {
    const sites = Object.entries(members.trust.sites);
    const networks = new Map(sites.map(([site, number]) => [site, siteNetwork(this.#fleetId, number)]));
    const certificates = members.members;
    const all = certificates.map((one) => memberOf(one, networks, members.binding(one.peerId)?.endpoints));
    const since = new Map(certificates.map((one) => [one.wireguardKey, one.since]));
    const gateways = certificates.filter(({ roles }) => roles.includes('gateway'));
    const rank = new Map(gateways.map(({ wireguardKey, peerId }) => [wireguardKey, this.#ways?.rankOf(peerId) ?? 0]));
    // Of several gateways, the earliest member that is there: both ends of a way mostly see the same ones.
    const order = (a: OverlayMember, b: OverlayMember) =>
      (rank.get(a.publicKey) ?? 0) - (rank.get(b.publicKey) ?? 0) ||
      (since.get(a.publicKey) ?? 0) - (since.get(b.publicKey) ?? 0) ||
      a.publicKey.localeCompare(b.publicKey);
    return planPeers(memberOf(own, networks), all, order).map((peer) => ({
      ...peer,
      endpoints: inOrderOfReach(peer.endpoints, around),
    }));
  }

  /** Of this machine, but for the loopback's, link-local ones and those of the overlay. */
  #interfaces(): NetworkInterfaceInfo[] {
    return Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .filter(({ internal, address }) => !internal && !/^fe[89ab]/i.test(address) && !this.isInside(address));
  }

  #byKey(): Map<string, Certificate> {
    const members = this.#deps.membership.certified?.members.members ?? [];
    return new Map(members.map((one) => [one.wireguardKey, one]));
  }
}

function memberOf(
  { wireguardKey, address, site, roles }: Certificate,
  networks: ReadonlyMap<string, string>,
  endpoints: readonly string[] = [],
): OverlayMember {
  // A certificate for a site that the fleet does not have is none.
  const network = networks.get(site) ?? `${address}/128`;
  const device = roles.includes('device');
  const gateway = roles.includes('gateway') && !device;
  return { publicKey: wireguardKey, address, site, siteNetwork: network, gateway, device, endpoints };
}

function within(address: bigint, { first, last }: { readonly first: bigint; readonly last: bigint }): boolean {
  return first <= address && address <= last;
}

/** What a node says of its overlay, whichever it has. */
export async function overlayLine({ overlay, network }: Overlays): Promise<OverlayLine> {
  if (network === undefined) return (await overlay?.status()) ?? { state: 'off' };
  const status = await network.status();
  if (status === undefined)
    return { state: 'missing', imported: true, ...(network.missing && { why: network.missing }) };
  const { peers, ...facts } = status;
  // Its peers are machines, and which member is which they do not say.
  const lines = peers.map(
    ({ handshakeAt, ...peer }): OverlayPeerLine => ({
      ...peer,
      ...(handshakeAt !== undefined && { handshakeAt: new Date(handshakeAt * 1000).toISOString() }),
      path: isAlive({ handshakeAt }) ? 'direct' : 'none',
    }),
  );
  return { state: 'up', imported: true, ...facts, peers: lines };
}

interface Overlays {
  readonly overlay: FleetOverlay | undefined;
  readonly network: ImportedNetwork | undefined;
}
