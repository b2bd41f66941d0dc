import { z } from 'zod';
import { rate } from './setting.ts';

/** How far a long operation has come. `total` is absent while it is not known. */
export interface Progress {
  /** What is being done, as an operator would say it: `import rootfs`, `fetch`, `verify`. */
  readonly phase: string;
  /** Bytes done. */
  readonly bytes: number;
  readonly total?: number;
}

export interface OperationOptions {
  /** Ends the operation; what is half done is taken back or can be resumed. */
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: Progress) => void;
}

export interface ReadOptions extends OperationOptions {
  /** Takes the artifact's bytes in order; the next piece comes when its promise has resolved. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
}

const channel = z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/i, 'is a word of letters, digits, dots and dashes');
const file = z.string().startsWith('/', 'is an absolute path').max(4096);
const cid = z.string().regex(/^b[a-z2-7]{20,120}$/, 'is a CID in base32, such as bafybei…');
const pinName = z.string().regex(/^[\w.:@-]{1,128}$/, 'is a word of at most 128 letters, digits and . : @ _ -');

const memberName = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, 'is 1 to 32 of a-z, 0-9 and inner dashes');

const rateText = z.string().refine((text) => rate.safeParse(text).success, 'is a rate such as 20mbit or 2.5MB/s');

/** What each operation takes; checked again on the agent's side of the socket. */
export const operationInputs = {
  publish: z.strictObject({
    channel,
    kernel: file,
    initramfs: file,
    rootfs: file.optional(),
    /** Kernel command line, a template: `{{neighbour}}`, `{{artifact:rootfs}}`, … */
    cmdline: z.string().max(2048),
  }),
  get: z.strictObject({
    /** A CID, a channel (its rootfs), or `channel:kernel|initramfs|rootfs`. */
    name: z.string().min(1).max(200),
    /** The same file on a plain HTTP server, for what no peer has. */
    origin: z
      .url({ protocol: /^https?$/, error: 'is an http:// or https:// URL' })
      .max(2048)
      .optional(),
    /** Files or block devices that may hold parts of it, used before anybody is asked. */
    seed: z.array(file).max(16).optional(),
  }),
  status: z.strictObject({}),
  peers: z.strictObject({}),
  ls: z.strictObject({}),
  pin: z.strictObject({ cid, name: pinName.optional() }),
  unpin: z.strictObject({ name: pinName }),
  gc: z.strictObject({}),
  verify: z.strictObject({}),
  /** A token for one machine; without a site, that of this node. */
  invite: z.strictObject({
    site: memberName.optional(),
    name: memberName.optional(),
    roles: z.array(z.string().max(32)).max(8).optional(),
    /** How long it can be used. */
    seconds: z
      .int()
      .min(10, 'is 10 seconds or more')
      .max(30 * 86_400, 'is 30 days at most')
      .optional(),
  }),
  pending: z.strictObject({}),
  /** A peer id, or a name of one that waits; without a site, that of this node. */
  approve: z.strictObject({
    machine: z.string().min(1).max(128),
    site: memberName.optional(),
    name: memberName.optional(),
    roles: z.array(z.string().max(32)).max(8).optional(),
  }),
  members: z.strictObject({}),
  overlay: z.strictObject({}),
  /** A name or a peer id. */
  revoke: z.strictObject({ member: z.string().min(1).max(128), why: z.string().max(200) }),
  /** What is left out stays as it is; null is no limit. The configuration counts again when the agent starts anew. */
  limit: z.strictObject({
    down: rateText.nullable().optional(),
    up: rateText.nullable().optional(),
    uplink: z.strictObject({ down: rateText.nullable().optional(), up: rateText.nullable().optional() }).optional(),
  }),
};

export type OperationName = keyof typeof operationInputs;
export type OperationInput<N extends OperationName> = z.infer<(typeof operationInputs)[N]>;

export interface ArtifactLine {
  readonly name: string;
  readonly cid: string;
  /** Bytes. */
  readonly size: number;
  readonly sha256?: string;
}

export interface PublishResult {
  readonly channel: string;
  readonly version: number;
  /** Bytes of its distinct chunks: what has to travel once. */
  readonly payloadBytes: number;
  readonly artifacts: readonly ArtifactLine[];
}

export interface GetResult {
  readonly cid: string;
  /** Bytes written. */
  readonly size: number;
  /** Hexadecimal, of the bytes written. */
  readonly sha256: string;
  /** Bytes fetched from others for this, by peer; absent or empty when all was here. */
  readonly from?: Readonly<Record<string, number>>;
  /** …and in all: what crossed the wire, which is less than the file where chunks came compressed or were here. */
  readonly transferred?: number;
  /** Plain bytes taken from the seeds. */
  readonly seeded?: number;
}

export interface PeerLine {
  readonly peerId: string;
  readonly name?: string;
  readonly site: string;
  readonly connected: boolean;
  readonly address?: string;
  readonly rttMs?: number;
  /** What chunk bytes travel by; absent while it is not connected. */
  readonly lane?: 'stream' | 'tls' | 'plain';
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Bytes of requests and the like, both ways, since the exchange with it stands. */
  readonly messageBytes?: number;
  /** ISO time. */
  readonly bannedUntil?: string;
}

export interface ChannelLine {
  readonly channel: string;
  /** Absent while no release of the channel has been verified here. */
  readonly version?: number;
  /** Share of its bytes that are in this node's store, 0 to 1. */
  readonly held?: number;
  /** Its signed metadata has expired: what runs goes on, nothing new is installed. */
  readonly stale?: boolean;
}

export interface StatusResult {
  readonly peerId: string;
  readonly node?: string;
  readonly site: string;
  readonly data: string;
  /** False when no agent is running and the command opened the store itself. */
  readonly agent: boolean;
  readonly uptimeSeconds?: number;
  readonly peersConnected: number;
  readonly channels: readonly ChannelLine[];
  readonly store: { readonly chunks: number; readonly bytes: number; readonly diskBytes: number };
  /** Where others reach it: multiaddrs of the swarm, URLs of the gateway. */
  readonly addresses: readonly string[];
  readonly boot?: BootLine;
  /** Absent where nothing is capped. */
  readonly rates?: RatesLine;
  /** Absent where background downloads run at any hour; `opens` while they pause: day and time of the hours' clock. */
  readonly background?: { readonly open: boolean; readonly opens?: string };
  /** What was wrong with release metadata since the agent started; absent when nothing was. */
  readonly faults?: readonly FaultLine[];
}

/** What chunk bytes may take in any second, bytes per second; absent: no limit. */
export interface RatesLine {
  readonly down?: number;
  readonly up?: number;
  /** Of the whole site, and what of that is this node's share now. */
  readonly uplink?: { readonly down?: number; readonly up?: number };
  readonly share?: { readonly down?: number; readonly up?: number };
}

export interface FaultLine {
  /**
   * fork: the fleet's online key signed two states of one version. rollback: it signed an older state as a newer one.
   * refused: the peer sent what no key of the fleet has signed.
   */
  readonly kind: 'fork' | 'rollback' | 'refused';
  readonly peerId: string;
  readonly what: string;
  readonly count: number;
  /** ISO time of the last one. */
  readonly lastAt: string;
}

export interface BootLine {
  readonly mode: string;
  /** What it is to bare machines; undecided while another DHCP server is looked for. */
  readonly role: 'undecided' | 'server' | 'proxy' | 'off';
  /** The release it boots them with, when all of it is here. */
  readonly release?: { readonly channel: string; readonly version: number } | undefined;
  /** What it cannot do, and what it would need for it. */
  readonly missing: readonly string[];
}

export interface PinLine {
  readonly name: string;
  readonly cid: string;
  readonly size?: number;
  readonly held?: number;
}

export interface GcResult {
  readonly evictedChunks: number;
  readonly evictedBytes: number;
  /** Bytes by which the segment files shrank. */
  readonly freedBytes: number;
}

export interface VerifyResult {
  readonly chunks: number;
  readonly bytes: number;
  readonly damaged: readonly { readonly cid: string; readonly file: string; readonly offset: number }[];
}

export interface InviteResult {
  /** Lets in one machine; secret until then. */
  readonly token: string;
  readonly site: string;
  /** ISO time. */
  readonly notAfter: string;
  /** Multiaddrs of the door where it is used. */
  readonly addresses: readonly string[];
}

export interface PendingLine {
  readonly peerId: string;
  /** What it calls itself. */
  readonly name: string;
  /** What it says that it is known by: `mac:…`, `serial:…`, `uuid:…`. */
  readonly machine: readonly string[];
  /** ISO times. */
  readonly firstAt: string;
  readonly lastAt: string;
}

export interface MemberLine {
  readonly peerId: string;
  readonly name: string;
  readonly site: string;
  readonly roles: readonly string[];
  /** In the overlay. */
  readonly address: string;
  readonly issuer: string;
  /** ISO times. */
  readonly since: string;
  readonly notAfter: string;
  /** taken: another member had its WireGuard key before. */
  readonly state: 'member' | 'revoked' | 'expired' | 'early' | 'taken';
  readonly connected: boolean;
  /** This node. */
  readonly self: boolean;
}

export interface OverlayLine {
  /** off: not wanted, or no fleet with certificates. missing: wanted, and `why` it is not there. */
  readonly state: 'up' | 'off' | 'missing';
  readonly why?: string;
  readonly interface?: string;
  readonly driver?: 'kernel' | 'userspace';
  /** UDP. */
  readonly port?: number;
  /** With prefix length. */
  readonly address?: string;
  readonly publicKey?: string;
  readonly peers?: readonly OverlayPeerLine[];
}

export interface OverlayPeerLine {
  readonly name?: string;
  readonly site?: string;
  readonly peerId?: string;
  readonly publicKey: string;
  readonly endpoint?: string;
  readonly allowedIps: readonly string[];
  /** ISO time of the last one. */
  readonly handshakeAt?: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** direct: a handshake within three minutes. */
  readonly path: 'direct' | 'none';
}

/**
 * What an operator can ask of a node: the agent does it, or the command itself when no agent runs. Inputs and results
 * are plain JSON. Rejects with `OperationError`, an error with a `code` of one of the rooms, or the signal's reason.
 */
export interface Operations {
  /** Cuts the files, signs the next version of the channel, and serves it. */
  publish(input: OperationInput<'publish'>, options: OperationOptions): Promise<PublishResult>;
  /** Writes an artifact's bytes, fetching what is not here; resolves after the last byte was verified and taken. */
  get(input: OperationInput<'get'>, options: ReadOptions): Promise<GetResult>;
  status(input: OperationInput<'status'>, options: OperationOptions): Promise<StatusResult>;
  peers(input: OperationInput<'peers'>, options: OperationOptions): Promise<{ readonly peers: readonly PeerLine[] }>;
  /** Channels with their artifacts, and pins. */
  ls(input: OperationInput<'ls'>, options: OperationOptions): Promise<LsResult>;
  pin(input: OperationInput<'pin'>, options: OperationOptions): Promise<PinLine>;
  unpin(input: OperationInput<'unpin'>, options: OperationOptions): Promise<PinLine>;
  gc(input: OperationInput<'gc'>, options: OperationOptions): Promise<GcResult>;
  /** Hashes every stored chunk again; damage is in the result, and is no failure of the operation. */
  verify(input: OperationInput<'verify'>, options: OperationOptions): Promise<VerifyResult>;
  /** Lets one machine join this node's fleet. */
  invite(input: OperationInput<'invite'>, options: OperationOptions): Promise<InviteResult>;
  /** Machines without a token that wait to be let in. */
  pending(
    input: OperationInput<'pending'>,
    options: OperationOptions,
  ): Promise<{ readonly pending: readonly PendingLine[] }>;
  /** Lets one of them in, the next time it asks. */
  approve(input: OperationInput<'approve'>, options: OperationOptions): Promise<PendingLine>;
  /** All who have, or had, a certificate of this node's fleet. */
  members(
    input: OperationInput<'members'>,
    options: OperationOptions,
  ): Promise<{ readonly members: readonly MemberLine[] }>;
  /** The WireGuard interface and its peers. */
  overlay(input: OperationInput<'overlay'>, options: OperationOptions): Promise<OverlayLine>;
  /** It is no member from now on, for good. */
  revoke(input: OperationInput<'revoke'>, options: OperationOptions): Promise<MemberLine>;
  /** Other rate caps for as long as the agent runs. */
  limit(input: OperationInput<'limit'>, options: OperationOptions): Promise<RatesLine>;
}

export interface LsResult {
  readonly channels: readonly (ChannelLine & { readonly artifacts: readonly ArtifactLine[] })[];
  readonly pins: readonly PinLine[];
}

export type OperationResult<N extends OperationName> = Awaited<ReturnType<Operations[N]>>;

/** Decides the exit code: see `bootmesh --help`. */
export const operationCodes = ['USAGE', 'NOT_FOUND', 'REFUSED', 'UNREACHABLE', 'BUSY', 'ABORTED', 'FAILED'] as const;
export type OperationCode = (typeof operationCodes)[number];

/** An operation that did not succeed. The message is one sentence: what, where, and what to do. */
export class OperationError extends Error {
  readonly code: OperationCode;

  constructor(code: OperationCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'OperationError';
    this.code = code;
  }
}

/** What the errors of the rooms mean to an operator; the rest are FAILED. */
const meanings = new Map<unknown, OperationCode>(
  Object.entries({
    USAGE: 'CONFIG DESCRIPTION_INVALID TOPOLOGY BOOT_OPTIONS COMMAND_LINE BAD_KEY NOT_STATIC',
    NOT_FOUND: 'ENOENT MISSING_FILE MODULE_MISSING NO_KERNEL LAB_NOT_FOUND SEED_UNUSABLE',
    REFUSED:
      'ADMISSION_REFUSED STATEMENT_REFUSED TRUST_LIST_INVALID FILE_UNUSABLE CORRUPT_CHUNK INVALID_MANIFEST RELEASE_INVALID TICKET_INVALID PUBLISH_REFUSED UNAUTHENTIC EACCES EPERM',
    UNREACHABLE: 'MISSING_CHUNK SOURCES_FAILED',
    BUSY: 'STORE_LOCKED LISTEN LAB_BUSY EADDRINUSE',
    ABORTED: 'ABORT_ERR',
  }).flatMap(([meaning, codes]) => codes.split(' ').map((code) => [code, meaning as OperationCode] as const)),
);

/** Any error as one that decides an exit code; the message stays. */
export function operationErrorOf(error: unknown): OperationError {
  if (error instanceof OperationError) return error;
  if (!(error instanceof Error)) return new OperationError('FAILED', String(error));
  const meaning = 'code' in error ? meanings.get(error.code) : undefined;
  return new OperationError(meaning ?? 'FAILED', error.message, { cause: error });
}
