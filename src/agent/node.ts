import { mkdir, readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { watermarkBytes } from '../admin/setting.ts';
import { type FleetDescription, readDescription } from '../fleet/description.ts';
import { type Identity, loadIdentity } from '../fleet/identity.ts';
import { type Member, Roster } from '../fleet/roster.ts';
import { isOpen, opensNext, parseHours } from '../limits/hours.ts';
import type { Log } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { Channels } from '../release/channels.ts';
import { createFleetKeys, type FleetKeys, FleetKeysUnusable, openFleetKeys } from '../release/fleet-keys.ts';
import { PackStore } from '../store/pack-store.ts';
import { createSwarm, type Swarm } from '../swarm/swarm.ts';
import { Artifacts } from './artifacts.ts';
import { type Config, ConfigError } from './config.ts';
import { Follower } from './follower.ts';
import { ReleaseFaults } from './release-faults.ts';
import { Renewal } from './renewal.ts';

/** Fleet name and site of a node that has no fleet description. */
const ALONE = { fleet: 'alone', site: 'default' } as const;

interface Deps {
  readonly config: Config;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Everything of a node but its faces: identity, store, swarm, releases, and what follows them. */
export class MeshNode implements AsyncDisposable {
  readonly identity: Identity;
  /** This node in the fleet description; undefined for a fleet of its own. */
  readonly member: Member | undefined;
  readonly roster: Roster;
  readonly store: PackStore;
  readonly swarm: Swarm;
  readonly artifacts: Artifacts;
  /** Undefined where the fleet description names no trust root: such a node only carries content. */
  readonly releases:
    | { readonly channels: Channels; readonly follower: Follower; readonly faults: ReleaseFaults }
    | undefined;
  readonly keys: FleetKeys | undefined;
  /** Whether background downloads go on now, and when they do next; undefined when they do at any hour. */
  readonly background: () => { readonly open: boolean; readonly opens?: string } | undefined;
  readonly #stack: AsyncDisposableStack;

  private constructor(parts: Omit<MeshNode, 'site' | typeof Symbol.asyncDispose>, stack: AsyncDisposableStack) {
    this.identity = parts.identity;
    this.member = parts.member;
    this.roster = parts.roster;
    this.store = parts.store;
    this.swarm = parts.swarm;
    this.artifacts = parts.artifacts;
    this.releases = parts.releases;
    this.keys = parts.keys;
    this.background = parts.background;
    this.#stack = stack;
  }

  /** Rejects with `ConfigError`, and with the errors of identity, description, store, keys and swarm. */
  static async open({ config, log, metrics }: Deps): Promise<MeshNode> {
    await mkdir(config.data, { recursive: true, mode: 0o700 });
    const identity = await loadIdentity(config.data);
    const description = config.fleet === undefined ? undefined : await readDescription(config.fleet);
    const roster = new Roster(description ?? { nodes: {} });
    const member = ownMember(config, roster, identity);
    const keys = await openKeys(config, description);
    const trustRoot = await readTrustRoot(description, keys);

    let artifacts: Artifacts | undefined;
    let follower: Follower | undefined;
    await using stack = new AsyncDisposableStack();
    const store = stack.use(
      await PackStore.open(
        join(config.data, 'store'),
        { log },
        {
          watermarks: await watermarksOf(config),
          onDamage: ({ cid }) => {
            for (const artifact of artifacts?.lost([cid]) ?? []) follower?.refetch(artifact);
          },
          onEvict: (cids) => void artifacts?.lost(cids),
        },
      ),
    );
    const background = backgroundOf(config, log);
    const swarm = stack.use(
      await openSwarm({ config, log, metrics, store, roster, identity, description, background }),
    );
    artifacts = new Artifacts({ store, swarm, log });
    const parts = { identity, member, roster, store, swarm, artifacts, keys, background };
    if (trustRoot === undefined) {
      log.warn('fleet description names no trust root: releases are neither followed nor booted', {
        fleet: config.fleet,
      });
      return new MeshNode({ ...parts, releases: undefined }, stack.move());
    }
    const channels = stack.use(
      await Channels.open(
        { network: swarm.documents, log: log.with({ room: 'release' }) },
        { directory: join(config.data, 'release'), trustRoot, follow: config.channels },
      ),
    );
    if (keys !== undefined) stack.use(new Renewal({ keys, repository: repositoryOf(config), channels, log }));
    const faults = stack.use(new ReleaseFaults({ channels, blame: (peer) => swarm.offend(peer) }));
    follower = stack.use(new Follower({ channels, artifacts, pins: store.pins, log }, config.channels));
    return new MeshNode({ ...parts, releases: { channels, follower, faults } }, stack.move());
  }

  get site(): string {
    return this.member?.site ?? ALONE.site;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Where a node that publishes keeps the fleet's TUF repository. */
export function repositoryOf({ data }: Pick<Config, 'data'>): string {
  return join(data, 'repository');
}

async function watermarksOf({ data, store }: Config) {
  const { blocks, bsize } = await statfs(data);
  try {
    return watermarkBytes(store, blocks * bsize);
  } catch (error) {
    throw new ConfigError((error as Error).message, { cause: error });
  }
}

/** The hours of background work; asked often, and looked up once a second. */
function backgroundOf({ background }: Config, log: Log): MeshNode['background'] {
  const hours = background.hours && parseHours(background.hours, background.timezone);
  if (hours === undefined) return () => undefined;
  let looked: { readonly at: number; readonly state: { readonly open: boolean; readonly opens?: string } } | undefined;
  return () => {
    const now = Date.now();
    if (looked !== undefined && Math.abs(now - looked.at) < 1000) return looked.state;
    const open = isOpen(hours, now);
    const opens = open ? undefined : opensNext(hours, now);
    const state = { open, ...(opens !== undefined && { opens }) };
    if (looked?.state.open !== open) log.info('background downloads', state);
    looked = { at: now, state };
    return state;
  };
}

function ownMember(config: Config, roster: Roster, { peerId }: Identity): Member | undefined {
  if (config.fleet === undefined) return undefined;
  const member = roster.member(peerId);
  if (member === undefined) {
    const advice = `add it there as \`peerId: ${peerId}\` under this node's name, on every node`;
    throw new ConfigError(`this node's peer id is not in ${config.fleet}: ${advice}`);
  }
  if (config.node !== undefined && config.node !== member.name) {
    const advice = `its key in ${config.data} belongs to ${member.name}`;
    throw new ConfigError(`node: this is not ${config.node}; ${advice}`);
  }
  return member;
}

/** The fleet's own keys where there are any. A node without a fleet description is a fleet of its own, and makes them. */
async function openKeys(config: Config, description: FleetDescription | undefined): Promise<FleetKeys | undefined> {
  const directory = config.keys ?? join(config.data, 'fleet-keys');
  try {
    return await openFleetKeys(directory);
  } catch (error) {
    const absent = error instanceof FleetKeysUnusable && error.reason === 'missing';
    if (!absent || config.keys !== undefined) throw error;
    if (description !== undefined) return undefined;
    return await createFleetKeys(directory, { fleet: ALONE.fleet, channels: channelsOf(config) });
  }
}

function channelsOf({ channels }: Config): string[] {
  return [...new Set([...channels, 'production', 'testing', 'development'])];
}

async function readTrustRoot(description: FleetDescription | undefined, keys: FleetKeys | undefined) {
  const root = description?.trust?.root;
  if (root === undefined) return keys?.root;
  try {
    return await readFile(root);
  } catch (cause) {
    const message = `trust.root: ${root} cannot be read (${(cause as Error).message}); copy root.json from the fleet's keys`;
    throw new ConfigError(message, { cause });
  }
}

interface SwarmParts extends Deps {
  readonly background: MeshNode['background'];
  readonly store: PackStore;
  readonly roster: Roster;
  readonly identity: Identity;
  readonly description: FleetDescription | undefined;
}

async function openSwarm(parts: SwarmParts): Promise<Swarm> {
  const { config, log, metrics, store, roster, identity, description, background } = parts;
  const segment = roster.member(identity.peerId)?.segment ?? '';
  const trusted = description?.segments[segment]?.trusted === true;
  return await createSwarm(
    { store, membership: roster, privateKey: identity.privateKey, log, metrics },
    {
      listen: config.swarm.listen,
      mdns: config.swarm.mdns,
      lanes: {
        ...config.swarm.lanes,
        onTrustedSegment: (peerId) => trusted && roster.member(peerId)?.segment === segment,
      },
      site: ALONE.site,
      exchange: { caps: config.rates },
      backgroundOpen: () => background()?.open ?? true,
      bootstrap: roster.bootstrap(identity.peerId),
    },
  );
}
