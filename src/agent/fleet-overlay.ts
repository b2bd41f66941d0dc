import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import type { OverlayLine, OverlayPeerLine } from '../admin/results.ts';
import type { Certified, Membership } from '../enrolment/membership.ts';
import { MAX_PLACES } from '../fleet/binding.ts';
import type { Certificate } from '../fleet/certificate.ts';
import { fleetNetwork, siteNetwork } from '../fleet/overlay-address.ts';
import { CommandFailed } from '../host/command.ts';
import type { Log } from '../observe/log.ts';
import { parseCidr } from '../overlay/cidr.ts';
import { inOrderOfReach } from '../overlay/endpoint-order.ts';
import { OverlayUnavailable } from '../overlay/interface.ts';
import type { SecretKey, WireGuardNetwork } from '../overlay/network.ts';
import { Overlay } from '../overlay/overlay.ts';
import { type OverlayMember, type PlannedPeer, planPeers } from '../overlay/peer-plan.ts';
import type { Config } from './config.ts';

interface Deps {
  readonly config: Pick<Config, 'overlay'>;
  readonly membership: Membership;
  readonly log: Log;
}

/** A packet was authenticated within this time: the way to the peer is open. Seconds. */
const OPEN_S = 180;
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

  private constructor(deps: Deps, fleetId: Buffer) {
    this.#deps = deps;
    this.#fleetId = fleetId;
  }

  /** Undefined where none is wanted, or this node has no certificate. */
  static async open(deps: Deps): Promise<FleetOverlay | undefined> {
    const { config, membership, log } = deps;
    const { own, certified } = membership;
    const { mode, interface: name, port, mtu, keepalive } = config.overlay;
    if (mode === 'off') return undefined;
    if (own === undefined || certified === undefined) {
      log.warn('no overlay: this node has no certificate', { advice: 'join a fleet: bootmesh join TOKEN' });
      return undefined;
    }
    const fleetId = Buffer.from(certified.members.trust.fleetId, 'hex');
    const overlay = new FleetOverlay(deps, fleetId);
    const options = {
      ...{ name, driver: mode, port, mtu },
      keepalive: { near: 0, far: keepalive },
      keyFile: certified.wireguardKey.file,
      publicKey: certified.wireguardKey.publicKey,
      address: `${own.address}/128`,
      routes: [fleetNetwork(fleetId)],
    };
    try {
      overlay.#overlay = await Overlay.open(
        {
          plan: () => overlay.#plan(),
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

  /** The /48 of the fleet. */
  get network(): string {
    return fleetNetwork(this.#fleetId);
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
    const { port, endpoints } = this.#deps.config.overlay;
    const own = this.#interfaces()
      .toSorted((a, b) => a.family.localeCompare(b.family))
      .map(({ address, family }) => (family === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`));
    return [...new Set([...endpoints, ...own])].slice(0, MAX_PLACES);
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
      const open = handshakeAt !== undefined && Date.now() / 1000 - handshakeAt < OPEN_S;
      return {
        ...(member && { name: member.name, site: member.site, peerId: member.peerId }),
        publicKey,
        ...rest,
        ...(handshakeAt !== undefined && { handshakeAt: new Date(handshakeAt * 1000).toISOString() }),
        path: open ? 'direct' : 'none',
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
    await this.#overlay?.[Symbol.asyncDispose]();
  }

  #plan(): PlannedPeer[] {
    const { own, certified } = this.#deps.membership;
    if (own === undefined || certified === undefined) return [];
    return this.#planFor(
      own,
      certified,
      this.#interfaces().flatMap(({ cidr }) => cidr ?? []),
    );
  }

  /** @param around networks that the node is on */
  #planFor(own: Certificate, { members }: Certified, around: readonly string[]): PlannedPeer[] {
    const sites = Object.entries(members.trust.sites);
    const networks = new Map(sites.map(([site, number]) => [site, siteNetwork(this.#fleetId, number)]));
    const certificates = members.members;
    const all = certificates.map((one) => memberOf(one, networks, members.binding(one.peerId)?.endpoints));
    const since = new Map(certificates.map((one) => [one.wireguardKey, one.since]));
    // Of several gateways, the earliest member.
    const order = (a: OverlayMember, b: OverlayMember) =>
      (since.get(a.publicKey) ?? 0) - (since.get(b.publicKey) ?? 0) || a.publicKey.localeCompare(b.publicKey);
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
