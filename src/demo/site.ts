import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type AdminClient, connectAdmin } from '../admin/admin-client.ts';
import type { PublishResult } from '../admin/results.ts';
import { trialFleet } from '../agent/trial-fleet.ts';
import type { FleetDescription } from '../fleet/description.ts';
import { type Lab, labUp } from '../lab/lab.ts';
import { type Materials, makeMaterials } from './materials.ts';

const bootmesh = fileURLToPath(new URL('../launch/launch.js', import.meta.url));

export interface SiteOptions {
  /** A fleet with one publisher, whose role is origin. */
  readonly description: FleetDescription;
  /** Empty, or a former site's. Keys, stores and logs go here. */
  readonly directory: string;
  /** Survives the run: packages and images. */
  readonly cache: string;
  readonly onProgress: (sentence: string) => void;
  /** What is to be published. @default makeMaterials */
  readonly materials?: typeof makeMaterials;
}

/** A described fleet on this machine with real agents, and a release for it; the demo's and the tests' scene. */
export class Site implements AsyncDisposable {
  readonly lab: Lab;
  readonly materials: Materials;
  readonly publisher: string;
  readonly channel: string;

  private constructor(lab: Lab, materials: Materials, publisher: string, channel: string) {
    this.lab = lab;
    this.materials = materials;
    this.publisher = publisher;
    this.channel = channel;
  }

  /** Makes keys and images, brings the network up, and starts the publisher's agent alone. */
  static async open(options: SiteOptions, { signal }: { readonly signal: AbortSignal }): Promise<Site> {
    const { description: described, directory, cache, onProgress } = options;
    const publisher = Object.entries(described.nodes).find(([, node]) => node.roles.includes('origin'))?.[0];
    const [channel] = described.channels;
    if (publisher === undefined || channel === undefined) throw new TypeError('the site needs an origin and a channel');
    await mkdir(directory, { recursive: true });
    const keys = join(directory, 'keys');
    const fleet = await trialFleet(described, keys);
    const materials = await (options.materials ?? makeMaterials)({ cache, keys, directory, onProgress }, { signal });
    const lab = await labUp(
      fleet.description,
      {
        agentCommand: [process.execPath, bootmesh, 'up'],
        directory: join(directory, 'lab'),
        start: [publisher],
        keepLogs: true,
        agentConfig: fleet.agentConfig,
      },
      { signal },
    );
    return new Site(lab, materials, publisher, channel);
  }

  async publish(cmdline: string, { signal }: { readonly signal: AbortSignal }): Promise<PublishResult> {
    const { kernel, initramfs, rootfs } = this.materials;
    const admin = await this.admin(this.publisher);
    return await admin.publish({ channel: this.channel, kernel, initramfs, rootfs, cmdline }, { signal });
  }

  /** Starts agents at the same moment. */
  async start(names: readonly string[], { signal }: { readonly signal: AbortSignal }): Promise<void> {
    await Promise.all(names.map((name) => this.lab.startNode(name, { signal })));
  }

  /** Resolves when each of the nodes holds the whole release; tells the shares, 0 to 1, as they grow. */
  async untilHeld(
    names: readonly string[],
    { signal, onShares }: { readonly signal: AbortSignal; readonly onShares?: (shares: readonly number[]) => void },
  ): Promise<void> {
    for (;;) {
      const shares = await Promise.all(names.map((name) => this.#held(name, signal)));
      onShares?.(shares);
      if (shares.every((share) => share === 1)) return;
      await delay(100, undefined, { signal });
    }
  }

  /** Resolves when each of the nodes would answer a bare machine: its DHCP role is settled and it holds a release. */
  async untilBooting(names: readonly string[], { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const answers = async (name: string) => {
      const { boot } = await (await this.admin(name)).status({}, { signal });
      return (boot?.role === 'server' || boot?.role === 'proxy') && boot.release !== undefined;
    };
    while (!(await Promise.all(names.map(answers))).every(Boolean)) await delay(100, undefined, { signal });
  }

  /** The operations of a node's agent, over its control socket. */
  async admin(name: string): Promise<AdminClient> {
    const admin = await connectAdmin(dirname(this.lab.node(name).socket));
    if (admin === undefined) throw new TypeError(`no agent answers at ${this.lab.node(name).socket}`);
    return admin;
  }

  async #held(name: string, signal: AbortSignal): Promise<number> {
    const { channels } = await (await this.admin(name)).status({}, { signal });
    return channels.find(({ channel }) => channel === this.channel)?.held ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }
}
