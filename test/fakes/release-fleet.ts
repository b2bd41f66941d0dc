import { createHash } from 'node:crypto';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chunkCid } from '../../src/content/chunk.ts';
import type { Disk } from '../../src/disk/durable-file.ts';
import { FleetClock } from '../../src/enrolment/fleet-clock.ts';
import { silentLog } from '../../src/observe/log.ts';
import { Channels, type ChannelsOptions } from '../../src/release/channels.ts';
import { createFleetKeys, type FleetKeys } from '../../src/release/fleet-keys.ts';
import { type PublishRequest, publish, readRepository } from '../../src/release/publisher.ts';
import type { ArtifactRef, Release } from '../../src/release/release.ts';
import type { FakeNode } from './metadata-network.ts';

/** An artifact that nobody holds, of the given words. */
export function artifact(words: string): ArtifactRef {
  const bytes = Buffer.from(words);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const pieces = createHash('sha256').update(`${sha256}\n`).digest('hex');
  return {
    name: `${words.replaceAll(' ', '-')}.img`,
    cid: chunkCid(bytes).toString(),
    size: bytes.length,
    sha256,
    pieces,
  };
}

/** A fleet's keys, a repository and directories for its nodes, all under one temporary directory. */
export class TestFleet implements AsyncDisposable {
  readonly directory: string;
  readonly keys: FleetKeys;
  readonly #open: AsyncDisposable[] = [];

  private constructor(directory: string, keys: FleetKeys) {
    this.directory = directory;
    this.keys = keys;
  }

  static async create(channels: readonly string[] = ['production', 'testing']): Promise<TestFleet> {
    const directory = await mkdtemp(join(tmpdir(), 'bm-release-'));
    const keys = await createFleetKeys(join(directory, 'keys'), { fleet: 'test', channels });
    return new TestFleet(directory, keys);
  }

  get repository(): string {
    return join(this.directory, 'repository');
  }

  publish(
    words: string,
    more: Partial<PublishRequest> = {},
    deps?: { disk?: Disk; clock?: () => number },
  ): Promise<Release> {
    return publish(
      {
        keys: this.keys,
        directory: this.repository,
        channel: 'production',
        kernel: artifact(`kernel ${words}`),
        initramfs: artifact(`initramfs ${words}`),
        rootfs: artifact(`rootfs ${words}`),
        cmdline: `root={{artifact:rootfs}} about=${words.replaceAll(' ', '-')}`,
        ...more,
      },
      deps,
    );
  }

  /** The repository as it is now, kept under `name`. */
  async snapshot(name: string): Promise<string> {
    const copy = join(this.directory, name);
    await cp(this.repository, copy, { recursive: true });
    return copy;
  }

  /** A node that follows production; its rounds of asking start by hand. */
  async node(
    network: FakeNode,
    options: Partial<ChannelsOptions> & { clock?: () => number; disk?: Disk } = {},
  ): Promise<Channels> {
    const { clock: system, disk, ...rest } = options;
    const directory = join(this.directory, network.id);
    const facts = { log: silentLog, ...(system && { system }) };
    const clock = await FleetClock.open(join(this.directory, `${network.id}.clock`), facts);
    const channels = await Channels.open(
      { network, log: silentLog, clock, ...(disk && { disk }) },
      {
        directory,
        trustRoot: this.keys.root,
        follow: ['production'],
        refreshMs: 3_600_000,
        ...rest,
      },
    );
    // The clock is written when the node has ended.
    this.#open.push(clock, channels);
    return channels;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#open.map((each) => each[Symbol.asyncDispose]()));
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Answers as a peer would that holds `repository` and does not check it. */
export function repositoryPeer(repository: string) {
  return (name: string) => readRepository(repository, name.slice('release/'.length));
}
