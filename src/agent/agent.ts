import { hostname } from 'node:os';
import type { CID } from 'multiformats/cid';
import { serveAdmin } from '../admin/admin-route.ts';
import type { Operations } from '../admin/operations.ts';
import { createBoot } from '../boot/boot.ts';
import { checkCommandLine } from '../boot/command-line.ts';
import type { BootReleases } from '../boot/release.ts';
import { artifactRoutes } from '../gateway/artifact-route.ts';
import type { Artifacts as ServedArtifacts } from '../gateway/artifacts.ts';
import { Gateway } from '../gateway/gateway.ts';
import { releaseRoutes, type Releases as ServedReleases } from '../gateway/release-route.ts';
import { statusRoutes } from '../gateway/status-route.ts';
import { createLog, type Log } from '../observe/log.ts';
import { createMetrics } from '../observe/metrics.ts';
import type { Config } from './config.ts';
import { LocalOperations } from './local-operations.ts';
import { MeshNode } from './node.ts';
import { segmentIdentity } from './segment-identity.ts';

/** Everything a machine needs to give and take: returned running, stopped by disposal. */
export class Agent implements AsyncDisposable {
  readonly operations: Operations;
  readonly log: Log;
  readonly #stack: AsyncDisposableStack;

  private constructor(operations: Operations, log: Log, stack: AsyncDisposableStack) {
    this.operations = operations;
    this.log = log;
    this.#stack = stack;
  }

  /** Starts every room in the order of its needs. Rejects with the error of the first that cannot start. */
  static async start(config: Config): Promise<Agent> {
    const log = createLog(config.log);
    const metrics = createMetrics({ process: true });
    const startedAt = performance.now();
    await using stack = new AsyncDisposableStack();
    const node = stack.use(await MeshNode.open({ config, log, metrics }));
    let gateway: Gateway | undefined;
    const boot = await createBoot(
      {
        log: log.with({ room: 'boot' }),
        identity: segmentIdentity(node.identity),
        membership: node.membership,
        releases: bootReleases(node),
        name: node.name ?? hostname(),
        dataDirectory: config.data,
      },
      {
        ...config.boot,
        channel: config.boot.channel ?? config.channels[0] ?? 'production',
        gatewayPort: gatewayPort(config),
      },
    );
    const operations = new LocalOperations({
      node,
      data: config.data,
      checkCommandLine,
      running: () => ({
        uptimeSeconds: Math.round((performance.now() - startedAt) / 1000),
        addresses: [...node.swarm.addresses(), ...(gateway?.addresses ?? [])],
        boot: boot.status(),
      }),
    });
    const status = { snapshot: () => publicStatus(operations), healthy: () => true };
    const routes = [
      ...artifactRoutes({ artifacts: servedArtifacts(node), log, metrics }),
      ...releaseRoutes({ releases: servedReleases(node) }),
      ...boot.routes,
      ...statusRoutes({ status, metrics }),
    ];
    gateway = stack.use(await Gateway.open({ routes, log, metrics }, { listen: config.gateway.listen }));
    stack.use(boot);
    stack.use(await serveAdmin({ operations, log, metrics }, config.data));
    const { peerId } = node.identity;
    log.info('agent is up', { peerId, node: node.name, site: node.site, data: config.data });
    return new Agent(operations, log, stack.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.log.info('agent stops');
    await this.#stack.disposeAsync();
  }
}

/** Port that booting machines are sent to: that of the first address the gateway listens on. */
function gatewayPort({ gateway }: Config): number | undefined {
  const port = /:(\d+)$/.exec(gateway.listen[0] ?? '')?.[1];
  // Port 0 is the kernel's choice: for tests, which boot nobody.
  return port === undefined || port === '0' ? undefined : Number(port);
}

/** What anybody on the network may know: not where this machine keeps its files. */
function publicStatus(operations: LocalOperations): object {
  const { data: _, ...status } = operations.snapshot();
  return status;
}

/** Only what a verified release or a person has pinned: a node is no open relay. */
function servedArtifacts({ artifacts, store }: MeshNode): ServedArtifacts {
  return {
    open: async (cid: CID, options) => {
      if (!store.pins.list().some((pin) => pin.cid.equals(cid))) return undefined;
      return await artifacts.open(cid, options);
    },
  };
}

function servedReleases({ releases }: MeshNode): ServedReleases {
  return {
    follows: (channel) => releases?.follower.follows(channel) ?? false,
    current: (channel) => {
      const serving = releases?.follower.serving(channel);
      return serving && { release: serving.release, ticket: serving.release.ticket };
    },
  };
}

/** Machines are booted with what this node holds completely, which may be the release before the newest. */
function bootReleases({ artifacts, releases }: MeshNode): BootReleases {
  return {
    current: (channel, architecture) => {
      const release = releases?.follower.serving(channel);
      const boot = release?.release.arch[architecture];
      if (release === undefined || boot?.kernel === undefined || boot.initramfs === undefined) return undefined;
      const { kernel, initramfs, rootfs, cmdline: commandLine } = boot;
      return { channel, version: release.version, digest: release.digest, kernel, initramfs, rootfs, commandLine };
    },
    holds: (cid) => artifacts.isComplete(cid),
  };
}
