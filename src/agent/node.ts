import { createHash } from 'node:crypto';
import { mkdir, readFile, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { watermarkBytes } from '../admin/setting.ts';
import { readGuarded } from '../disk/guarded-file.ts';
import { FleetClock } from '../enrolment/fleet-clock.ts';
import { fleetFiles, Membership } from '../enrolment/membership.ts';
import { createFleet } from '../enrolment/new-fleet.ts';
import { Presence } from '../enrolment/presence.ts';
import { Reception } from '../enrolment/reception.ts';
import { type FleetDescription, readDescription } from '../fleet/description.ts';
import { type Identity, loadIdentity } from '../fleet/identity.ts';
import { type Member, Roster } from '../fleet/roster.ts';
import { isOpen, opensNext, parseHours } from '../limits/hours.ts';
import type { Log } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import { ImportedNetwork, importedNetwork } from '../overlay/imported-network.ts';
import { Channels } from '../release/channels.ts';
import { DOCUMENT_BYTES } from '../release/document.ts';
import { type FleetKeys, FleetKeysUnusable, openFleetKeys } from '../release/fleet-keys.ts';
import { MetadataStore } from '../release/metadata-store.ts';
import { PackStore } from '../store/pack-store.ts';
import { createSwarm, type Swarm } from '../swarm/swarm.ts';
import { Artifacts } from './artifacts.ts';
import { type Config, ConfigError } from './config.ts';
import { FleetOverlay } from './fleet-overlay.ts';
import { Follower } from './follower.ts';
import { ReleaseFaults } from './release-faults.ts';
import { Renewal } from './renewal.ts';

/** Fleet name and site of a node that has no fleet description. */
const ALONE = { fleet: 'alone', site: 'default' } as const;

interface Deps {
  readonly config: Config;
  readonly log: Log;
  readonly metrics: Metrics;
  /** A command that is over in a moment: no interface of the overlay, and no door. @default false */
  readonly brief?: boolean;
}

/** Everything of a node but its faces: identity, store, swarm, releases, and what follows them. */
export class MeshNode implements AsyncDisposable {
  /** The time by which all that is signed is judged. */
  readonly clock: FleetClock;
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
  readonly membership: Membership;
  /** What signs on a node with the fleet's keys. */
  readonly renewal: Renewal | undefined;
  /** This node among the certified members; undefined in a fleet without certificates. */
  readonly presence: Presence | undefined;
  /** Undefined where none is wanted. */
  readonly overlay: FleetOverlay | undefined;
  /** A WireGuard network that was imported, in place of the fleet's own. */
  readonly network: ImportedNetwork | undefined;
  /** On a node that admits. */
  readonly reception: Reception | undefined;
  /** Whether background downloads go on now, and when they do next; undefined when they do at any hour. */
  readonly background: () => { readonly open: boolean; readonly opens?: string } | undefined;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Omit<MeshNode, 'site' | 'name' | typeof Symbol.asyncDispose>,
    stack: AsyncDisposableStack,
  ) {
    this.clock = parts.clock;
    this.identity = parts.identity;
    this.member = parts.member;
    this.roster = parts.roster;
    this.store = parts.store;
    this.swarm = parts.swarm;
    this.artifacts = parts.artifacts;
    this.releases = parts.releases;
    this.keys = parts.keys;
    this.membership = parts.membership;
    this.renewal = parts.renewal;
    this.presence = parts.presence;
    this.overlay = parts.overlay;
    this.network = parts.network;
    this.reception = parts.reception;
    this.background = parts.background;
    this.#stack = stack;
  }

  /** Rejects with `ConfigError`, and with the errors of identity, description, store, keys and swarm. */
  static async open({ config, log, metrics, brief = false }: Deps): Promise<MeshNode> {
    await mkdir(config.data, { recursive: true, mode: 0o700 });
    const identity = await loadIdentity(config.data);
    await using stack = new AsyncDisposableStack();
    const clock = stack.use(await FleetClock.open(fleetFiles(config.data).clock, { log }));
    const description = config.fleet === undefined ? undefined : await readDescription(config.fleet);
    const roster = new Roster(description ?? { nodes: {} });
    const joined = await readGuarded(fleetFiles(config.data).root, { maxBytes: DOCUMENT_BYTES.root, secret: false });
    const keys = await openKeys({ config, log }, description, joined);
    const trustRoot = await readTrustRoot(description, joined ?? keys?.root);
    const membership = await openMembership({ config, log, clock, identity, roster, keys }, trustRoot);
    const member = ownMember(config, roster, membership, identity);

    let artifacts: Artifacts | undefined;
    let follower: Follower | undefined;
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
    const network = brief ? undefined : await openImported({ config, log });
    if (network !== undefined) stack.use(network);
    const overlay = brief || network ? undefined : await FleetOverlay.open({ config, membership, log });
    if (overlay !== undefined) stack.use(overlay);
    const met = [network, overlay].find((one) => one?.up);
    membership.overlay = met && { isInside: (address) => met.isInside(address), derived: met === overlay };
    const wires = met?.blocks ?? [];
    const swarm = stack.use(
      await openSwarm({ config, log, metrics, store, roster, membership, wires, identity, description, background }),
    );
    overlay?.follow(swarm);
    artifacts = new Artifacts({ store, swarm, log });
    const parts = {
      clock,
      identity,
      member,
      roster,
      store,
      swarm,
      artifacts,
      keys,
      membership,
      overlay,
      network,
      background,
    };
    if (trustRoot === undefined) {
      log.warn('fleet description names no trust root: releases are neither followed nor booted', {
        fleet: config.fleet,
      });
      const none = { releases: undefined, renewal: undefined, presence: undefined, reception: undefined };
      return new MeshNode({ ...parts, ...none }, stack.move());
    }
    const channels = stack.use(
      await Channels.open(
        { network: swarm.documents, log: log.with({ room: 'release' }), clock },
        { directory: releaseDirectory(config), trustRoot, follow: config.channels },
      ),
    );
    const repository = repositoryOf(config);
    const renewal = keys && stack.use(await Renewal.open({ keys, repository, channels, now: () => clock.now(), log }));
    const enrolled = await openEnrolment({
      config,
      log,
      brief,
      identity,
      membership,
      overlay,
      swarm,
      channels,
      trustRoot,
    });
    if (enrolled.presence !== undefined) stack.use(enrolled.presence);
    if (enrolled.reception !== undefined) stack.use(enrolled.reception);
    const faults = stack.use(new ReleaseFaults({ channels, blame: (peer) => swarm.offend(peer) }));
    follower = stack.use(new Follower({ channels, artifacts, pins: store.pins, log }, config.channels));
    const releases = { channels, follower, faults };
    return new MeshNode({ ...parts, renewal, ...enrolled, releases }, stack.move());
  }

  get site(): string {
    return this.swarm.site;
  }

  get name(): string | undefined {
    return this.member?.name ?? this.membership.own?.name;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** Where a node that publishes keeps the fleet's TUF repository. */
export function repositoryOf({ data }: Pick<Config, 'data'>): string {
  return join(data, 'repository');
}

/** Undefined where none was imported. */
async function openImported({ config, log }: Pick<Deps, 'config' | 'log'>): Promise<ImportedNetwork | undefined> {
  const network = await importedNetwork(config.data);
  if (network === undefined) return undefined;
  const { mode, interface: name } = config.overlay;
  if (mode === 'off') {
    log.warn('a WireGuard network was imported, and is not used', { advice: 'set overlay.mode to auto' });
    return undefined;
  }
  return await ImportedNetwork.open(network, { log: log.with({ room: 'overlay' }) }, { name, driver: mode });
}

function releaseDirectory({ data }: Pick<Config, 'data'>): string {
  return join(data, 'release');
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

function ownMember(config: Config, roster: Roster, { own }: Membership, { peerId }: Identity): Member | undefined {
  if (config.fleet === undefined) return undefined;
  const member = roster.member(peerId);
  if (member === undefined) {
    if (own !== undefined) return undefined;
    const advice = `add it there as \`peerId: ${peerId}\` under this node's name, on every node, or join with a token`;
    throw new ConfigError(`this node's peer id is not in ${config.fleet}: ${advice}`);
  }
  if (config.node !== undefined && config.node !== member.name) {
    const advice = `its key in ${config.data} belongs to ${member.name}`;
    throw new ConfigError(`node: this is not ${config.node}; ${advice}`);
  }
  return member;
}

/**
 * The fleet's own keys where there are any. A node without a fleet description that has joined none is a fleet of its own,
 * and makes them.
 */
async function openKeys(
  { config, log }: Pick<Deps, 'config' | 'log'>,
  description: FleetDescription | undefined,
  joined: Buffer | undefined,
): Promise<FleetKeys | undefined> {
  const directory = config.keys ?? join(config.data, 'fleet-keys');
  try {
    const keys = await openFleetKeys(directory);
    if (joined === undefined || keys.root.equals(joined)) return keys;
    if (config.keys === undefined) {
      log.info('the keys of the fleet that this machine was before it joined another are not used', { directory });
      return undefined;
    }
    const advice = 'take the keys of that fleet, or none';
    throw new ConfigError(`keys: ${directory} is of fleet ${keys.fleet}, and this node has joined another: ${advice}`);
  } catch (error) {
    const absent = error instanceof FleetKeysUnusable && error.reason === 'missing';
    if (!absent || config.keys !== undefined) throw error;
    if (description !== undefined || joined !== undefined) return undefined;
    return await createFleet(directory, { fleet: ALONE.fleet, sites: [ALONE.site], channels: channelsOf(config) });
  }
}

function channelsOf({ channels }: Config): string[] {
  return [...new Set([...channels, 'production', 'testing', 'development'])];
}

async function readTrustRoot(description: FleetDescription | undefined, known: Buffer | undefined) {
  const root = description?.trust?.root;
  if (root === undefined) return known;
  try {
    return await readFile(root);
  } catch (cause) {
    const message = `trust.root: ${root} cannot be read (${(cause as Error).message}); copy root.json from the fleet's keys`;
    throw new ConfigError(message, { cause });
  }
}

interface MembershipParts extends Pick<Deps, 'config' | 'log'> {
  readonly clock: FleetClock;
  readonly identity: Identity;
  readonly roster: Roster;
  readonly keys: FleetKeys | undefined;
}

/** Who belongs to the fleet, as far as this node knew when it stopped. */
async function openMembership(parts: MembershipParts, trustRoot: Buffer | undefined): Promise<Membership> {
  const { config, clock, log } = parts;
  const believed = trustRoot && (await MetadataStore.open(releaseDirectory(config), trustRoot, { log })).state;
  clock.signed(believed?.issued ?? 0);
  return await Membership.open({ ...parts, data: config.data, trust: believed?.chain.trust });
}

interface EnrolmentParts extends Pick<Deps, 'config' | 'log' | 'brief'> {
  readonly identity: Identity;
  readonly membership: Membership;
  readonly swarm: Swarm;
  readonly overlay: FleetOverlay | undefined;
  readonly channels: Channels;
  readonly trustRoot: Buffer;
}

/** Keeps this node a member, and admits others where it may. */
async function openEnrolment(parts: EnrolmentParts) {
  const { config, log, brief, identity, membership, overlay, swarm, channels, trustRoot } = parts;
  const { certified } = membership;
  if (certified === undefined) {
    channels.on('trust:new', () => log.info('certificates of this fleet count here from the next start on'));
    return { presence: undefined, reception: undefined };
  }
  const presence = new Presence({ membership, certified, identity, swarm, overlay, log });
  channels.on('trust:new', (trust) => presence.judge(trust));
  // It may have come while the rest was opened.
  if (!isDeepStrictEqual(channels.trust ?? certified.trust, certified.trust)) presence.judge(channels.trust);
  const { issuer } = certified;
  if (issuer === undefined || brief === true) return { presence, reception: undefined };
  const root = { bytes: trustRoot, digest: createHash('sha256').update(trustRoot).digest('hex') };
  const say = (bytes: Uint8Array) => presence.sync.say(bytes);
  const deps = { membership, certified, issuer, identity, root, documents: () => channels.documents, say, log };
  const reception = await Reception.open(deps, fleetFiles(config.data).invitations, config.door);
  return { presence, reception };
}

interface SwarmParts extends Deps {
  readonly membership: Membership;
  /** Blocks that are reached through WireGuard. */
  readonly wires: readonly string[];
  readonly background: MeshNode['background'];
  readonly store: PackStore;
  readonly roster: Roster;
  readonly identity: Identity;
  readonly description: FleetDescription | undefined;
}

async function openSwarm(parts: SwarmParts): Promise<Swarm> {
  const { config, log, metrics, store, roster, membership, wires, identity, description, background } = parts;
  const segment = roster.member(identity.peerId)?.segment ?? '';
  const trusted = description?.segments[segment]?.trusted === true;
  return await createSwarm(
    { store, membership, privateKey: identity.privateKey, log, metrics },
    {
      listen: config.swarm.listen,
      mdns: config.swarm.mdns,
      lanes: {
        ...config.swarm.lanes,
        // What goes through WireGuard is encrypted already.
        trusted: [...config.swarm.lanes.trusted, ...wires],
        onTrustedSegment: (peerId) => trusted && roster.member(peerId)?.segment === segment,
      },
      site: membership.own?.site ?? ALONE.site,
      exchange: { caps: config.rates },
      backgroundOpen: () => background()?.open ?? true,
      bootstrap: roster.bootstrap(identity.peerId),
    },
  );
}
