import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { CID } from 'multiformats/cid';
import {
  OperationError,
  type OperationInput,
  type OperationOptions,
  type Operations,
  type ReadOptions,
} from '../admin/operations.ts';
import type {
  ArtifactLine,
  ChannelLine,
  CourierNews,
  CourierResult,
  DeviceResult,
  GcResult,
  GetResult,
  InviteResult,
  LsResult,
  MemberLine,
  OverlayLine,
  PeerLine,
  PendingLine,
  PingLine,
  PinLine,
  PublishResult,
  RatesLine,
  StatusResult,
  VerifyResult,
} from '../admin/results.ts';
import { rate } from '../admin/setting.ts';
import { type ChunkRef, chunkKey } from '../content/chunk.ts';
import type { Manifest } from '../content/manifest.ts';
import { openSeed, type Seed } from '../delta/seed.ts';
import { publish } from '../release/publisher.ts';
import { artifactsOf } from '../release/release.ts';
import type { VerifiedRelease } from '../release/trusted-state.ts';
import type { Swarm } from '../swarm/swarm.ts';
import {
  admitDevice,
  approve,
  exportCourier,
  fleetStatus,
  importCourier,
  invite,
  memberLines,
  notRunning,
  pendingLines,
  renewMember,
  revokeMember,
} from './fleet-operations.ts';
import { overlayLine } from './fleet-overlay.ts';
import { importArtifact } from './import-artifact.ts';
import { type MeshNode, repositoryOf } from './node.ts';
import { peerLines, pingMembers } from './ping.ts';
import { releasePin } from './release-pin.ts';

interface Deps {
  readonly node: MeshNode;
  /** The data directory. */
  readonly data: string;
  /** What only a running agent has to say. */
  readonly running?: () => Pick<StatusResult, 'uptimeSeconds' | 'addresses' | 'boot'>;
  /** Throws when a command line template names what does not exist. */
  readonly checkCommandLine: (template: string, artifacts: readonly string[]) => void;
}

interface Seeds extends AsyncDisposable {
  /** Taken from the seeds. */
  readonly bytes: number;
}

/** The operations on an opened data directory: by the agent for its clients, or by a command when no agent runs. */
export class LocalOperations implements Operations {
  readonly #deps: Deps;
  readonly #node: MeshNode;

  constructor(deps: Deps) {
    this.#deps = deps;
    this.#node = deps.node;
  }

  async publish(input: OperationInput<'publish'>, options: OperationOptions): Promise<PublishResult> {
    const { keys, store, artifacts, releases, renewal, clock } = this.#node;
    if (keys === undefined || releases === undefined) {
      const message = `this node has no fleet keys in ${join(this.#deps.data, 'fleet-keys')}: publish where they are, or set \`keys\``;
      throw new OperationError('REFUSED', message);
    }
    const files = (['kernel', 'initramfs', 'rootfs'] as const).flatMap((role) => {
      const path = input[role];
      return path === undefined ? [] : [{ role, path }];
    });
    this.#deps.checkCommandLine(
      input.cmdline,
      files.map(({ role }) => role),
    );
    const imported = new Map<string, Awaited<ReturnType<typeof importArtifact>>>();
    for (const { role, path } of files) {
      const onProgress = (done: { bytes: number; total: number }) =>
        options.onProgress?.({ phase: `import ${role}`, ...done });
      const artifact = await importArtifact(path, store, { signal: options.signal, onProgress });
      // Under a name of its own until the release has one for it, so that no GC comes between.
      await store.pins.pin(`publish/${input.channel}/${role}`, artifact.manifest.cid);
      imported.set(role, artifact);
    }
    const refs = Object.fromEntries([...imported].map(([role, { ref }]) => [role, ref]));
    const directory = repositoryOf(this.#deps);
    const request = { keys, directory, channel: input.channel, cmdline: input.cmdline, ...refs };
    const sign = () => publish(request, { clock: () => clock.now() });
    const release = await (renewal?.exclusive(sign) ?? sign());
    for (const [role, { manifest }] of imported) {
      await store.pins.pin(releasePin({ ...release, role }), manifest.cid);
      await artifacts.imported(manifest);
    }
    await releases.channels.adopt(directory, { signal: options.signal });
    for (const { role } of files) await store.pins.unpin(`publish/${input.channel}/${role}`);
    const payloadBytes = distinctBytes([...imported.values()].map(({ manifest }) => manifest));
    return { channel: release.channel, version: release.version, payloadBytes, artifacts: artifactLines(release) };
  }

  async get(input: OperationInput<'get'>, options: ReadOptions): Promise<GetResult> {
    const { signal, onProgress, write } = options;
    const cid = this.#resolve(input.name);
    const before = this.#bytesIn();
    await using seeds = await this.#seed(cid, input.seed ?? [], options);
    const artifact = await this.#node.artifacts.open(cid, { signal, origin: input.origin });
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const piece of artifact.read({ signal })) {
      hash.update(piece);
      await write(piece);
      bytes += piece.length;
      onProgress?.({ phase: 'fetch', bytes, total: artifact.size });
    }
    const from = Object.fromEntries(
      [...this.#bytesIn()].flatMap(([peer, now]) => {
        const got = now - (before.get(peer) ?? 0);
        return got > 0 ? [[peer, got]] : [];
      }),
    );
    const transferred = Object.values(from).reduce((sum, each) => sum + each, 0);
    const sha256 = hash.digest('hex');
    return { cid: cid.toString(), size: bytes, sha256, from, transferred, seeded: seeds.bytes };
  }

  /** Takes from local files what they have of the artifact; what they are like is of use until the handle is disposed of. */
  async #seed(cid: CID, paths: readonly string[], { signal, onProgress }: OperationOptions): Promise<Seeds> {
    const { artifacts, store, swarm } = this.#node;
    await using stack = new AsyncDisposableStack();
    const manifest = await artifacts.manifest(cid, { signal });
    stack.use(store.hold(manifest.set));
    let bytes = 0;
    const onChunk = ({ cid: chunk, size }: ChunkRef) => {
      bytes += size;
      swarm.stored(chunk);
    };
    const seeds: Seed[] = [];
    for (const path of paths) {
      const told =
        onProgress && ((done: { bytes: number; total?: number }) => onProgress({ phase: `seed ${path}`, ...done }));
      seeds.push(
        stack.use(await openSeed(path, manifest, store, { signal, onChunk, ...(told && { onProgress: told }) })),
      );
    }
    const alike = seeds.flatMap(({ likeness }) => likeness ?? []);
    stack.use(await artifacts.compare(manifest, { signal, seeds: alike }));
    const open = stack.move();
    return { bytes, [Symbol.asyncDispose]: () => open.disposeAsync() };
  }

  async status(): Promise<StatusResult> {
    return this.snapshot();
  }

  /** `status`, at once. */
  snapshot(): StatusResult {
    const { identity, name, site, swarm, store, releases } = this.#node;
    const running = this.#deps.running?.();
    const faults = releases?.faults.list() ?? [];
    const rates = ratesOf(swarm);
    const background = this.#node.background();
    return {
      peerId: identity.peerId,
      ...(name !== undefined && { node: name }),
      site,
      data: this.#deps.data,
      agent: running !== undefined,
      peersConnected: swarm.peers().filter((peer) => peer.connected).length,
      channels: this.#channels(),
      store: store.stats(),
      addresses: swarm.addresses(),
      ...(rates && { rates }),
      ...(background && { background }),
      ...fleetStatus(this.#node),
      ...(faults.length > 0 && { faults }),
      ...running,
    };
  }

  async peers(): Promise<{ readonly peers: readonly PeerLine[] }> {
    return { peers: peerLines(this.#node) };
  }

  async ping(
    input: OperationInput<'ping'>,
    options: OperationOptions,
  ): Promise<{ readonly pings: readonly PingLine[] }> {
    if (this.#deps.running === undefined) throw notRunning(this.#deps.data);
    return await pingMembers(this.#node, input, options);
  }

  async ls(): Promise<LsResult> {
    const releases = new Map(this.#node.releases?.channels.list().map((release) => [release.channel, release]));
    const channels = this.#channels().map((line) => {
      const release = releases.get(line.channel);
      return { ...line, artifacts: release === undefined ? [] : artifactLines(release.release) };
    });
    return { channels, pins: this.#node.store.pins.list().map(({ name, cid }) => this.#pinLine(name, cid)) };
  }

  async pin(input: OperationInput<'pin'>, { signal, onProgress }: OperationOptions): Promise<PinLine> {
    const cid = parseCid(input.cid);
    const name = input.name ?? input.cid;
    const refused = new AbortController();
    // It holds at once, and reaches the disk while the chunks come.
    const pinned = this.#node.store.pins.pin(name, cid);
    pinned.catch((error: unknown) => refused.abort(error));
    await this.#node.artifacts.fetch(cid, {
      signal: AbortSignal.any([signal, refused.signal]),
      priority: 'foreground',
      onProgress: (done) => onProgress?.({ phase: 'fetch', ...done }),
    });
    await pinned;
    return this.#pinLine(name, cid);
  }

  async unpin(input: OperationInput<'unpin'>): Promise<PinLine> {
    const { pins } = this.#node.store;
    const pin = pins.list().find(({ name }) => name === input.name);
    if (pin === undefined) {
      throw new OperationError('NOT_FOUND', `no pin is named ${input.name}; \`bootmesh ls\` lists them`);
    }
    const line = this.#pinLine(pin.name, pin.cid);
    await pins.unpin(pin.name);
    if (!pins.list().some((other) => other.cid.equals(pin.cid))) await this.#node.artifacts.forget(pin.cid);
    return line;
  }

  async gc(_input: OperationInput<'gc'>, { signal }: OperationOptions): Promise<GcResult> {
    // An operator who asks for it wants all that nothing pins to go.
    return await this.#node.store.gc({ signal, lowBytes: 0 });
  }

  async verify(_input: OperationInput<'verify'>, { signal, onProgress }: OperationOptions): Promise<VerifyResult> {
    const report = await this.#node.store.verify({
      signal,
      onProgress: (done) => onProgress?.({ phase: 'verify', ...done }),
    });
    return { ...report, damaged: report.damaged.map((each) => ({ ...each, cid: each.cid.toString() })) };
  }

  async invite(input: OperationInput<'invite'>): Promise<InviteResult> {
    if (this.#deps.running === undefined) throw notRunning(this.#deps.data);
    return await invite(this.#node, input);
  }

  async pending(): Promise<{ readonly pending: readonly PendingLine[] }> {
    if (this.#deps.running === undefined) throw notRunning(this.#deps.data);
    return { pending: pendingLines(this.#node) };
  }

  async approve(input: OperationInput<'approve'>): Promise<PendingLine> {
    if (this.#deps.running === undefined) throw notRunning(this.#deps.data);
    return approve(this.#node, input);
  }

  async members(): Promise<{ readonly members: readonly MemberLine[] }> {
    return { members: memberLines(this.#node) };
  }

  async overlayExport(input: OperationInput<'overlayExport'>): Promise<DeviceResult> {
    if (this.#deps.running === undefined) throw notRunning(this.#deps.data);
    return await admitDevice(this.#node, input);
  }

  async courierExport(_input: OperationInput<'courierExport'>, { write }: ReadOptions): Promise<CourierResult> {
    return await exportCourier(this.#node, write);
  }

  async courierImport({ file }: OperationInput<'courierImport'>, options: OperationOptions): Promise<CourierNews> {
    return await importCourier(this.#node, file, options);
  }

  async overlay(): Promise<OverlayLine> {
    if (this.#deps.running === undefined) throw notRunning(this.#deps.data);
    return await overlayLine(this.#node);
  }

  async revoke(input: OperationInput<'revoke'>): Promise<MemberLine> {
    return await revokeMember(this.#node, input);
  }

  async renew(input: OperationInput<'renew'>): Promise<MemberLine> {
    return await renewMember(this.#node, input);
  }

  async limit({ down, up, uplink = {} }: OperationInput<'limit'>): Promise<RatesLine> {
    const { swarm } = this.#node;
    const { limits } = swarm.caps;
    const given = (text: string | null | undefined, before: number | undefined) =>
      text === undefined ? before : text === null ? undefined : rate.parse(text);
    swarm.setCaps({
      down: given(down, limits.down),
      up: given(up, limits.up),
      uplink: { down: given(uplink.down, limits.uplink?.down), up: given(uplink.up, limits.uplink?.up) },
    });
    return ratesOf(swarm) ?? {};
  }

  /** A CID, a channel (its rootfs), or `channel:artifact`. */
  #resolve(name: string): CID {
    if (/^b[a-z2-7]{20,120}$/.test(name)) return parseCid(name);
    const [channel = '', role = 'rootfs'] = name.split(':');
    const release = this.#node.releases?.channels.current(channel);
    if (release === undefined) {
      const known = this.#node.releases?.channels.list().map((each) => each.channel) ?? [];
      const message = `no release of channel ${channel} is known here; known are: ${known.join(', ') || 'none'}`;
      throw new OperationError('NOT_FOUND', message);
    }
    const artifact = artifactsOf(release.release).find(([each]) => each === role)?.[1];
    if (artifact === undefined) {
      const roles = artifactsOf(release.release).map(([each]) => each);
      throw new OperationError('NOT_FOUND', `${channel} ${release.version} has no ${role}; it has ${roles.join(', ')}`);
    }
    return CID.parse(artifact.cid);
  }

  #channels(): ChannelLine[] {
    const following = this.#node.releases?.follower.list() ?? [];
    return following.map(({ channel, newest, progress, held }) => ({
      channel,
      ...(newest && { version: newest.version, held: heldShare(newest, held, progress), stale: newest.stale }),
    }));
  }

  #pinLine(name: string, cid: CID): PinLine {
    const held = this.#node.artifacts.isComplete(cid.toString());
    return { name, cid: cid.toString(), ...(held && { held: 1 }) };
  }

  #bytesIn(): Map<string, number> {
    return new Map(this.#node.swarm.peers().map(({ peerId, name, bytesIn }) => [name ?? peerId, bytesIn]));
  }
}

/** Undefined when nothing is capped. */
function ratesOf({ caps }: Swarm): RatesLine | undefined {
  const { down, up, uplink = {} } = caps.limits;
  const share = {
    ...(uplink.down !== undefined && { down: caps.share.down }),
    ...(uplink.up !== undefined && { up: caps.share.up }),
  };
  const shared = uplink.down !== undefined || uplink.up !== undefined;
  if (down === undefined && up === undefined && !shared) return undefined;
  return { ...defined({ down, up }), ...(shared && { uplink: defined(uplink), share }) };
}

function defined({ down, up }: { readonly down?: number | undefined; readonly up?: number | undefined }) {
  return { ...(down !== undefined && { down }), ...(up !== undefined && { up }) };
}

function heldShare(
  newest: VerifiedRelease,
  held: VerifiedRelease | undefined,
  progress: { readonly bytes: number; readonly total: number } | undefined,
): number {
  if (held?.digest === newest.digest) return 1;
  // Not 1 before the store has synced the last chunk and the release counts as held.
  return progress === undefined ? 0 : Math.min(0.999, progress.bytes / Math.max(1, progress.total));
}

/** Bytes of the chunks of all of them, each counted once. */
function distinctBytes(manifests: readonly Manifest[]): number {
  const sizes = new Map(manifests.flatMap(({ set }) => set.chunks.map(({ cid, size }) => [chunkKey(cid), size])));
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

function artifactLines(release: VerifiedRelease['release']): ArtifactLine[] {
  return artifactsOf(release).map(([role, { cid, size, sha256 }]) => ({ name: role, cid, size, sha256 }));
}

function parseCid(text: string): CID {
  try {
    return CID.parse(text);
  } catch (cause) {
    throw new OperationError('USAGE', `${text} is no CID: copy it from \`bootmesh ls\``, { cause });
  }
}
