/** One file of a release, as the fleet signed it. */
export interface BootArtifact {
  /** CID of its manifest; the gateway serves it at `/artifact/<cid>`. */
  readonly cid: string;
  /** Bytes. */
  readonly size: number;
  /** Hexadecimal sha256 of the whole file. */
  readonly sha256: string;
}

/** A verified release, as far as booting needs it, for one processor architecture. */
export interface BootRelease {
  readonly channel: string;
  readonly version: number;
  /** Names these exact bytes among the nodes of a segment: hexadecimal sha256 of the signed release. */
  readonly digest: string;
  readonly kernel: BootArtifact;
  readonly initramfs: BootArtifact;
  readonly rootfs?: BootArtifact | undefined;
  /** Kernel command line template, see `checkCommandLine`. */
  readonly commandLine: string;
}

/** What boot asks of whoever holds the releases. Only verified ones may be answered. */
export interface BootReleases {
  /** The newest verified release of `channel`, or undefined. Cheap: it is asked for on every DISCOVER. */
  current(channel: string, architecture: 'x86_64'): BootRelease | undefined;
  /** True when every chunk of the artifact `cid` is in this node's own store. Cheap. */
  holds(cid: string): boolean;
}

/** The artifacts of a release by the name that command lines use. */
export function releaseArtifacts(release: BootRelease): ReadonlyMap<string, BootArtifact> {
  const artifacts = new Map([
    ['kernel', release.kernel],
    ['initramfs', release.initramfs],
  ]);
  if (release.rootfs !== undefined) artifacts.set('rootfs', release.rootfs);
  return artifacts;
}
