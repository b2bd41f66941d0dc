import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { durableDisk } from '../disk/durable-file.ts';
import { readGuarded } from '../disk/guarded-file.ts';
import { CommandFailed } from '../host/command.ts';
import type { Log } from '../observe/log.ts';
import { parseCidr } from './cidr.ts';
import { type InterfaceOptions, OverlayUnavailable } from './interface.ts';
import type { WireGuardNetwork } from './network.ts';
import { Overlay, type OverlayStatus } from './overlay.ts';
import type { PlannedPeer } from './peer-plan.ts';
import { formatNetwork, MAX_WG_QUICK_BYTES, parseNetwork } from './wg-quick.ts';

/** The network would carry what is not its own. */
export class NetworkTooWide extends Error {
  readonly code = 'NETWORK_TOO_WIDE';
}

/**
 * A WireGuard network that somebody else has planned, as one machine sees it: its interface is made and kept as the
 * configuration says, and what the swarm sends to its addresses goes through it.
 */
export class ImportedNetwork implements AsyncDisposable {
  /** All blocks that are behind the interface. */
  readonly blocks: readonly string[];
  readonly #overlay: Overlay | undefined;
  /** Why there is no interface. */
  readonly missing: string | undefined;

  private constructor(overlay: Overlay | string, blocks: readonly string[]) {
    this.#overlay = typeof overlay === 'string' ? undefined : overlay;
    this.missing = typeof overlay === 'string' ? overlay : undefined;
    this.blocks = blocks;
  }

  /** Where the interface cannot be made the node is without it, and says so. Rejects with `NetworkTooWide`. */
  static async open(
    network: WireGuardNetwork,
    { log }: { readonly log: Log },
    { name, driver }: Pick<InterfaceOptions, 'name' | 'driver'>,
  ): Promise<ImportedNetwork> {
    refuseAll(network);
    const { addresses, listenPort = 0, mtu, publicKey, privateKey } = network.interface;
    const blocks = network.peers.flatMap(({ allowedIps }) => allowedIps);
    const plan = network.peers.map(plannedPeer);
    try {
      const overlay = await Overlay.open(
        { plan: () => plan, isGateway: () => false, log },
        {
          ...{ name, key: privateKey, publicKey, addresses, port: listenPort, routes: blocks },
          ...(driver !== undefined && { driver }),
          ...(mtu !== undefined && { mtu }),
          keepalive: { near: 0, far: 0 },
        },
      );
      return new ImportedNetwork(overlay, blocks);
    } catch (error) {
      if (!(error instanceof OverlayUnavailable) && !(error instanceof CommandFailed)) throw error;
      log.error('the imported network is not there: this node is reached without it', { error });
      return new ImportedNetwork(error.message, []);
    }
  }

  /** There is an interface. */
  get up(): boolean {
    return this.#overlay !== undefined;
  }

  isInside(address: string): boolean {
    const one = parseCidr(address);
    return this.blocks.some((block) => {
      const network = parseCidr(block);
      if (network === undefined || one === undefined || network.bits !== one.bits) return false;
      return network.first <= one.first && one.last <= network.last;
    });
  }

  async status(): Promise<OverlayStatus | undefined> {
    return await this.#overlay?.status();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#overlay?.[Symbol.asyncDispose]();
  }
}

/** In a data directory, with the private key in it. */
const fileOf = (data: string) => join(data, 'network.conf');

/** Undefined where none was imported. Rejects with `FileUnusable` and `WgQuickInvalid`. */
export async function importedNetwork(data: string): Promise<WireGuardNetwork | undefined> {
  const text = await readGuarded(fileOf(data), { maxBytes: MAX_WG_QUICK_BYTES, secret: true });
  return text && parseNetwork(text.toString(), fileOf(data));
}

/** The agent that starts on `data` has it from then on; resolves to the file that it is kept in. Rejects with `NetworkTooWide`. */
export async function importNetwork(data: string, network: WireGuardNetwork): Promise<string> {
  refuseAll(network);
  await durableDisk.replace(fileOf(data), Buffer.from(formatNetwork(network)));
  return fileOf(data);
}

export async function forgetNetwork(data: string): Promise<void> {
  await rm(fileOf(data), { force: true });
}

/** A way for everything (0.0.0.0/0) is no way between members, and would take the machine's own. @throws {NetworkTooWide} */
function refuseAll({ peers }: WireGuardNetwork): void {
  const all = peers.flatMap(({ allowedIps }) => allowedIps).find((block) => block.endsWith('/0'));
  if (all === undefined) return;
  throw new NetworkTooWide(`AllowedIPs = ${all} sends everything there: name the blocks of the network alone`);
}

function plannedPeer(peer: WireGuardNetwork['peers'][number]): PlannedPeer {
  const { publicKey, allowedIps, endpoint, persistentKeepalive = 0, presharedKey } = peer;
  return {
    publicKey,
    allowedIps: allowedIps.toSorted(),
    endpoints: endpoint === undefined ? [] : [endpoint],
    far: false,
    keepalive: persistentKeepalive,
    ...(presharedKey && { presharedKey }),
  };
}
