import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type Body, BodySchema, EnvelopeSchema } from './segment_pb.ts';

/** A datagram of the segment that is not accepted. `code` is what is counted; `peerId` as it claims to be. */
export class SegmentError extends Error {
  override readonly name = 'SegmentError';
  readonly code:
    | 'SEGMENT_SIZE'
    | 'SEGMENT_FORMAT'
    | 'SEGMENT_STRANGER'
    | 'SEGMENT_SOURCE'
    | 'SEGMENT_STALE'
    | 'SEGMENT_CLOCK'
    | 'SEGMENT_BUSY'
    | 'SEGMENT_SIGNATURE';
  readonly peerId: string | undefined;
  constructor(code: SegmentError['code'], message: string, peerId?: string) {
    super(message);
    this.code = code;
    this.peerId = peerId;
  }
}

/** Signs as this node and checks others; the node's libp2p key. `verify` never throws for bad input. */
export interface SegmentIdentity {
  readonly peerId: string;
  sign(bytes: Uint8Array): Promise<Uint8Array> | Uint8Array;
  verify(peerId: string, bytes: Uint8Array, signature: Uint8Array): Promise<boolean> | boolean;
}

/** What a message says, beside who says it. */
export type SegmentContent = Exclude<MessageInitShape<typeof BodySchema>['content'], undefined>;
type Sender = Pick<Body, 'peerId' | 'startedMs' | 'sentMs' | 'sequence'>;

/** Below every usual MTU: a heartbeat is never fragmented. */
export const MAX_MESSAGE_BYTES = 1400;
export const MESSAGE_VERSION = 1;
/** Keeps a signature made here from meaning anything elsewhere. */
const DOMAIN = Buffer.from('bootmesh-segment-v1\0');

/** @throws SegmentError SEGMENT_SIZE when it does not fit a datagram */
export async function sealMessage(
  sender: Sender,
  content: SegmentContent,
  identity: SegmentIdentity,
): Promise<Uint8Array> {
  const body = toBinary(BodySchema, create(BodySchema, { ...sender, version: MESSAGE_VERSION, content }));
  const signature = await identity.sign(Buffer.concat([DOMAIN, body]));
  const bytes = toBinary(EnvelopeSchema, create(EnvelopeSchema, { body, signature }));
  if (bytes.length > MAX_MESSAGE_BYTES) {
    throw new SegmentError('SEGMENT_SIZE', `a message of ${bytes.length} bytes does not fit ${MAX_MESSAGE_BYTES}`);
  }
  return bytes;
}

/** A message that is well formed; nothing in it is believed before `verify`. */
export interface OpenedMessage {
  readonly body: Body;
  verify(identity: SegmentIdentity): Promise<boolean>;
}

/** @throws SegmentError SEGMENT_SIZE or SEGMENT_FORMAT */
export function openMessage(bytes: Uint8Array): OpenedMessage {
  if (bytes.length > MAX_MESSAGE_BYTES) {
    throw new SegmentError('SEGMENT_SIZE', `a message of ${bytes.length} bytes is too long`);
  }
  try {
    const envelope = fromBinary(EnvelopeSchema, bytes, { readUnknownFields: false });
    const body = fromBinary(BodySchema, envelope.body, { readUnknownFields: false });
    if (body.version !== MESSAGE_VERSION || body.peerId.length > 128 || body.content.case === undefined) {
      throw new SegmentError('SEGMENT_FORMAT', `the message has version ${body.version}, or says nothing`);
    }
    const signed = Buffer.concat([DOMAIN, envelope.body]);
    return { body, verify: async (identity) => identity.verify(body.peerId, signed, envelope.signature) };
  } catch (cause) {
    if (cause instanceof SegmentError) throw cause;
    throw new SegmentError('SEGMENT_FORMAT', `no message: ${(cause as Error).message}`);
  }
}
