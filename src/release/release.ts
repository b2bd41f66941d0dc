import { CID } from 'multiformats/cid';
import { z } from 'zod';
import { DAG_PB, RAW, SHA2_256 } from '../content/chunk.ts';

/** A release that breaks the format. The message lists every fault with its path in the document. */
export class ReleaseInvalid extends Error {
  readonly code = 'RELEASE_INVALID';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ReleaseInvalid';
  }
}

/** Bytes of a release document; a longer one is refused before it is parsed. */
export const MAX_RELEASE_BYTES = 32 * 1024;
const MAX_ARTIFACT_BYTES = 2 ** 40;
const MAX_VERSION = 2 ** 31 - 1;
const TUF_ROLES = new Set(['root', 'targets', 'snapshot', 'timestamp']);

const hexSha256 = z.string().regex(/^[0-9a-f]{64}$/, 'is no sha256: 64 lower-case hexadecimal digits');

/** A channel's name is a TUF role, a file name and a URL part: as narrow as the fleet description's names. */
export const channelName = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, 'is no channel: 1 to 32 of a-z, 0-9 and inner dashes')
  // tuf-js keeps roles in plain objects, so an inherited key (`constructor`) would be found before any role.
  .refine((name) => !TUF_ROLES.has(name) && !(name in {}), 'is a reserved name');

const artifactSchema = z.strictObject({
  /** What people call it, for example vmlinuz-6.12.48. */
  name: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$/, 'is no plain file name'),
  cid: z.string().max(128).refine(isManifestCid, 'is no CIDv1 (raw or dag-pb, sha2-256) in base32'),
  /** Bytes. */
  size: z.int().min(1).max(MAX_ARTIFACT_BYTES),
  sha256: hexSha256,
  /** sha256 of the pieces text: one lower-case sha256 and a newline per 4 MiB of the file. */
  pieces: hexSha256.optional(),
});

const bootSchema = z
  .strictObject({
    kernel: artifactSchema.optional(),
    initramfs: artifactSchema.optional(),
    rootfs: artifactSchema.optional(),
    /** Kernel command line template; printable ASCII, because it travels through iPXE scripts. */
    cmdline: z
      .string()
      .max(2048)
      .regex(/^[\x20-\x7e]*$/, 'is not one line of printable ASCII'),
  })
  .refine((boot) => boot.kernel || boot.initramfs || boot.rootfs, 'names no artifact')
  .refine((boot) => boot.kernel || !boot.initramfs, 'has an initramfs without a kernel');

const releaseSchema = z.strictObject({
  format: z.literal(1),
  channel: channelName,
  /** Grows by every release of the channel, and is never used twice. */
  version: z.int().min(1).max(MAX_VERSION),
  /** When it was published, UTC, whole seconds. */
  issued: z
    .string()
    .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'is no UTC time such as 2026-11-21T00:00:00Z')
    .refine((time) => Number.isFinite(Date.parse(time)), 'is no date of the calendar'),
  arch: z.strictObject({ x86_64: bootSchema }),
  /** For a guest without our libraries: the same facts as text, signed in signify's format. */
  ticket: z
    .strictObject({
      text: z
        .string()
        .max(4096)
        .regex(/^[\x20-\x7e\n]*$/),
      signature: z
        .string()
        .max(512)
        .regex(/^[\x20-\x7e\n]*$/),
    })
    .optional(),
});

/** A file of a release. `cid` names its manifest; `sha256` is of the whole file. */
export type ArtifactRef = Readonly<z.infer<typeof artifactSchema>>;

/**
 * One channel's signed state: the only TUF target of that channel, so parts of two releases cannot be mixed. Architectures
 * are named as `uname -m` names them.
 */
export type Release = Readonly<z.infer<typeof releaseSchema>>;

export function parseRelease(bytes: Uint8Array): Release {
  if (bytes.length > MAX_RELEASE_BYTES) {
    throw new ReleaseInvalid(`the release has ${bytes.length} bytes, more than ${MAX_RELEASE_BYTES}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ReleaseInvalid('the release is no JSON', { cause });
  }
  return checkRelease(json);
}

/** Throws `ReleaseInvalid`. */
export function checkRelease(value: unknown): Release {
  const result = releaseSchema.safeParse(value);
  if (result.success) return result.data;
  const faults = result.error.issues
    .slice(0, 8)
    .map((issue) => `${issue.path.join('.') || 'the release'}: ${issue.message}`);
  throw new ReleaseInvalid(faults.join('; '), { cause: result.error });
}

/** The artifacts of a release by role, in the order in which a machine needs them. */
export function artifactsOf(release: Release): readonly (readonly [role: ArtifactRole, artifact: ArtifactRef])[] {
  const { kernel, initramfs, rootfs } = release.arch.x86_64;
  const all = { kernel, initramfs, rootfs };
  return ARTIFACT_ROLES.flatMap((role) => {
    const artifact = all[role];
    return artifact === undefined ? [] : [[role, artifact] as const];
  });
}

const ARTIFACT_ROLES = ['kernel', 'initramfs', 'rootfs'] as const;
export type ArtifactRole = (typeof ARTIFACT_ROLES)[number];

function isManifestCid(text: string): boolean {
  try {
    const cid = CID.parse(text);
    return (
      cid.version === 1 &&
      (cid.code === RAW || cid.code === DAG_PB) &&
      cid.multihash.code === SHA2_256 &&
      cid.multihash.size === 32 &&
      cid.toString() === text
    );
  } catch {
    return false;
  }
}
