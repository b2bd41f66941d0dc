import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os';
import type { OverlayLine, OverlayPeerLine } from '../admin/results.ts';
import type { Membership } from '../enrolment/membership.ts';
import { MAX_PLACES } from '../fleet/binding.ts';
import type { Certificate } from '../fleet/certificate.ts';
import { fleetNetwork, siteNetwork } from '../fleet/overlay-address.ts';
import { numberOfSite } from '../fleet/trust-list.ts';
import { CommandFailed } from '../host/command.ts';
import type { Log } from '../observe/log.ts';
import { inOrderOfReach } from '../overlay/endpoint-order.ts';
import { OverlayUnavailable } from '../overlay/interface.ts';
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

/**
 * The WireGuard interface of a member, true to who belongs to the fleet. Where it cannot be made, the node goes on
 * without, and says so.
 */
export class FleetOverlay implements AsyncDisposable {
  readonly #deps: Deps;
  readonly #own: Certificate;
  readonly #fleetId: Buffer;
  #overlay: Overlay | undefined;
  #missing: string | undefined;

  private constructor(deps: Deps, own: Certificate, fleetId: Buffer) {
    this.#deps = deps;
    this.#own = own;
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
    const overlay = new FleetOverlay(deps, own, fleetId);
    const options = {
      ...{ name, driver: mode, port, mtu },
      keepalive: { near: 0, far: keepalive },
      keyFile: certified.wireguardKey.file,
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

  /** An address of the overlay itself, as IPv6 is spelt by Node. */
  isInside(address: string): boolean {
    const [prefix = ''] = this.network.split('::');
    return address.toLowerCase().startsWith(`${prefix}:`);
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

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#overlay?.[Symbol.asyncDispose]();
  }

  #plan(): PlannedPeer[] {
    const { membership } = this.#deps;
    const { members } = membership.certified ?? {};
    const own = membership.own ?? this.#own;
    if (members === undefined || membership.own === undefined) return [];
    const networks = this.#interfaces().flatMap(({ cidr }) => cidr ?? []);
    const all = members.members.flatMap((one) => this.#memberOf(one, networks) ?? []);
    const byKey = this.#byKey();
    // Of several gateways of a site, the earliest member.
    const order = (a: OverlayMember, b: OverlayMember) => {
      const [one, other] = [byKey.get(a.publicKey), byKey.get(b.publicKey)];
      return (one?.since ?? 0) - (other?.since ?? 0) || (one?.peerId ?? '').localeCompare(other?.peerId ?? '');
    };
    const { wireguardKey: publicKey, site, roles } = own;
    return planPeers({ publicKey, site, gateway: roles.includes('gateway') }, all, order);
  }

  /** Of this machine, but for the loopback's, link-local ones and those of the overlay. */
  #interfaces(): NetworkInterfaceInfo[] {
    return Object.values(networkInterfaces())
      .flatMap((each) => each ?? [])
      .filter(({ internal, address }) => !internal && !/^fe[89ab]/i.test(address) && !this.isInside(address));
  }

  #memberOf(
    { peerId, wireguardKey, address, site, roles }: Certificate,
    networks: readonly string[],
  ): OverlayMember | undefined {
    const { members } = this.#deps.membership.certified ?? {};
    const number = members && numberOfSite(members.trust, site);
    if (members === undefined || number === undefined) return undefined;
    return {
      publicKey: wireguardKey,
      address,
      site,
      siteNetwork: siteNetwork(this.#fleetId, number),
      gateway: roles.includes('gateway'),
      endpoints: inOrderOfReach(members.binding(peerId)?.endpoints ?? [], networks),
    };
  }

  #byKey(): Map<string, Certificate> {
    const members = this.#deps.membership.certified?.members.members ?? [];
    return new Map(members.map((one) => [one.wireguardKey, one]));
  }
}
