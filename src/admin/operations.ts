import { z } from 'zod';
import { MACHINE } from '../fleet/trust-list.ts';
import type {
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
} from './results.ts';
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

const ENDPOINT = /^(\[[0-9a-f:]+\]|[0-9.]+):\d{1,5}$/;

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
  /** Names or peer ids; all that are connected when absent. */
  ping: z.strictObject({ members: z.array(z.string().min(1).max(128)).min(1).max(256).optional() }),
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
    /** The only machine that it lets in. */
    machine: z.string().regex(MACHINE, 'is mac:52:54:00:12:34:56, serial:… or uuid:…, in lower case').optional(),
    /** How long it can be used. */
    seconds: z
      .int()
      .min(1, 'is a second or more')
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
  /** A certificate and a configuration for a laptop or a router without an agent. */
  overlayExport: z.strictObject({
    name: memberName,
    site: memberName.optional(),
    days: z.int().min(1).max(3650).optional(),
    /** Where the device reaches its gateway. */
    endpoint: z.string().regex(ENDPOINT, 'is ADDRESS:PORT, for example 198.51.100.7:51820').optional(),
  }),
  courierExport: z.strictObject({}),
  courierImport: z.strictObject({ file }),
  /** A name or a peer id. */
  revoke: z.strictObject({ member: z.string().min(1).max(128), why: z.string().max(200) }),
  /** A name or a peer id; this node when absent. With other roles when they are named. */
  renew: z.strictObject({
    member: z.string().min(1).max(128).optional(),
    roles: z.array(z.string().max(32)).max(8).optional(),
  }),
  /** What is left out stays as it is; null is no limit. The configuration counts again when the agent starts anew. */
  limit: z.strictObject({
    down: rateText.nullable().optional(),
    up: rateText.nullable().optional(),
    uplink: z.strictObject({ down: rateText.nullable().optional(), up: rateText.nullable().optional() }).optional(),
  }),
};

export type OperationName = keyof typeof operationInputs;
export type OperationInput<N extends OperationName> = z.infer<(typeof operationInputs)[N]>;

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
  /** Asks members for one chunk each. Who is not reached is in the result, and is no failure of the operation. */
  ping(input: OperationInput<'ping'>, options: OperationOptions): Promise<{ readonly pings: readonly PingLine[] }>;
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
  /** Writes a file with the fleet's signed metadata and all that is said of its members, for where no network reaches. */
  courierExport(input: OperationInput<'courierExport'>, options: ReadOptions): Promise<CourierResult>;
  /** Takes what is news to this node from such a file, and passes it on. */
  courierImport(input: OperationInput<'courierImport'>, options: OperationOptions): Promise<CourierNews>;
  /** The WireGuard interface and its peers. */
  overlay(input: OperationInput<'overlay'>, options: OperationOptions): Promise<OverlayLine>;
  /** Makes keys for a device without an agent and admits it to the overlay. The keys are kept nowhere here. */
  overlayExport(input: OperationInput<'overlayExport'>, options: OperationOptions): Promise<DeviceResult>;
  /** It is no member from now on, for good. */
  revoke(input: OperationInput<'revoke'>, options: OperationOptions): Promise<MemberLine>;
  /** Its next certificate, from now on. */
  renew(input: OperationInput<'renew'>, options: OperationOptions): Promise<MemberLine>;
  /** Other rate caps for as long as the agent runs. */
  limit(input: OperationInput<'limit'>, options: OperationOptions): Promise<RatesLine>;
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
    USAGE: 'COURIER_INVALID CONFIG DESCRIPTION_INVALID TOPOLOGY BOOT_OPTIONS COMMAND_LINE BAD_KEY NOT_STATIC',
    NOT_FOUND: 'ENOENT MISSING_FILE MODULE_MISSING NO_KERNEL LAB_NOT_FOUND SEED_UNUSABLE',
    REFUSED:
      'ADMISSION_REFUSED LAB_REFUSED STATEMENT_REFUSED TRUST_LIST_INVALID FILE_UNUSABLE CORRUPT_CHUNK INVALID_MANIFEST RELEASE_INVALID TICKET_INVALID PUBLISH_REFUSED UNAUTHENTIC EACCES EPERM',
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
