import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { CID } from 'multiformats/cid';
import { MAX_LIKE_CHUNKS } from '../delta/likeness.ts';
import { kindOf, LANE_BITS } from '../lane/lane.ts';
import type { LaneMessage } from '../lane/pair-lanes.ts';
import { TICKET_ID_BYTES, TICKET_SECRET_BYTES } from '../lane/ticket.ts';
import {
  type ExchangeMessage,
  ExchangeMessageSchema,
  type LaneTicket,
  type Request,
  Priority as WirePriority,
} from './exchange_pb.ts';

/** Newest form of the exchange protocol that this code speaks. */
export const EXCHANGE_VERSION = 1;

/** Limits of one message; whatever exceeds them is malformed. */
export const MESSAGE_LIMITS = {
  /** One encoded message: the have-map of the largest set, and some. */
  bytes: 160 * 1024,
  /** Chunks of one set: 2^20 bits are a have-map of 128 KiB. */
  chunks: 1 << 20,
  /** Requests, cancels or ends in one message. */
  batch: 512,
  /** Chunk numbers in one list of a Subscribe or Have. */
  indexes: 8192,
  /** A CID: version, codec, and a multihash of up to 64 bytes. */
  cid: 80,
} as const;

/** A request's rank at the uploader: a reader waits for it, a machine is booting, or prefetch. */
export type Priority = 'urgent' | 'foreground' | 'background';

export interface RequestItem {
  readonly id: number;
  /** A chunk of a set, or any block by name. */
  readonly of: { readonly handle: number; readonly index: number } | { readonly cid: CID };
  readonly priority: Priority;
  /** Chunks that the requester has, probably like this one: it may be sent compressed against them. */
  readonly like: readonly CID[];
}

export type Message =
  | { readonly kind: 'hello'; readonly version: number; readonly accepts: number; readonly lanes: number }
  | LaneMessage
  | {
      readonly kind: 'subscribe';
      readonly handle: number;
      readonly set: CID;
      readonly chunks: number;
      /** 'all', or one bit per chunk (missing bytes are zero). */
      readonly have: 'all' | Uint8Array;
      readonly wants: boolean;
      readonly outside: boolean;
      readonly claimed: readonly number[];
    }
  | { readonly kind: 'decline' | 'unsubscribe'; readonly handle: number }
  | {
      readonly kind: 'have';
      readonly handle: number;
      readonly added: readonly number[];
      readonly claimed: readonly number[];
      readonly unclaimed: readonly number[];
      readonly lost: readonly number[];
      readonly wants: boolean;
      readonly outside: boolean;
    }
  | { readonly kind: 'uplink'; readonly down: boolean; readonly up: boolean }
  | { readonly kind: 'request'; readonly items: readonly RequestItem[] }
  | { readonly kind: 'cancel'; readonly ids: readonly number[] }
  | {
      readonly kind: 'ended';
      readonly missing: readonly number[];
      readonly busy: readonly number[];
      readonly cancelled: readonly number[];
    };

/** Bytes from a peer that are no message of ours. The connection they came by is closed and the peer scored. */
export class MalformedMessage extends Error {
  readonly code = 'MALFORMED_MESSAGE';

  constructor(problem: string, options?: ErrorOptions) {
    super(`malformed exchange message: ${problem}`, options);
    this.name = 'MalformedMessage';
  }
}

const PRIORITY_TO_WIRE = {
  foreground: WirePriority.FOREGROUND,
  background: WirePriority.BACKGROUND,
  urgent: WirePriority.URGENT,
} as const;

const PRIORITY_FROM_WIRE: Readonly<Record<number, Priority | undefined>> = {
  [WirePriority.FOREGROUND]: 'foreground',
  [WirePriority.BACKGROUND]: 'background',
  [WirePriority.URGENT]: 'urgent',
};

export function encodeMessage(message: Message): Uint8Array {
  return toBinary(ExchangeMessageSchema, create(ExchangeMessageSchema, { body: bodyOf(message) }));
}

/** @throws MalformedMessage for anything that a peer of ours would not send. */
export function decodeMessage(bytes: Uint8Array): Message {
  if (bytes.length > MESSAGE_LIMITS.bytes) throw new MalformedMessage(`${bytes.length} bytes`);
  let wire: ExchangeMessage;
  try {
    wire = fromBinary(ExchangeMessageSchema, bytes, { readUnknownFields: false });
  } catch (cause) {
    throw new MalformedMessage('not protobuf', { cause });
  }
  const { body } = wire;
  switch (body.case) {
    case 'hello':
      return { kind: 'hello', version: body.value.version, accepts: body.value.accepts, lanes: body.value.lanes };
    case 'subscribe': {
      const { handle, chunks, complete, have, wants, outside, claimed } = body.value;
      within('chunks', chunks, MESSAGE_LIMITS.chunks);
      within('have-map bytes', have.length, Math.ceil(chunks / 8));
      indexes(claimed, chunks);
      const set = decodeCid(body.value.set);
      return { kind: 'subscribe', handle, set, chunks, have: complete ? 'all' : have, wants, outside, claimed };
    }
    case 'decline':
    case 'unsubscribe':
      return { kind: body.case, handle: body.value.handle };
    case 'have': {
      const { handle, added, claimed, unclaimed, lost, wants, outside } = body.value;
      for (const list of [added, claimed, unclaimed, lost]) indexes(list, MESSAGE_LIMITS.chunks);
      return { kind: 'have', handle, added, claimed, unclaimed, lost, wants, outside };
    }
    case 'request':
      within('requests', body.value.items.length, MESSAGE_LIMITS.batch);
      return { kind: 'request', items: requestItems(body.value) };
    case 'cancel':
      within('cancels', body.value.ids.length, MESSAGE_LIMITS.batch);
      return { kind: 'cancel', ids: body.value.ids };
    case 'ended': {
      const { missing, busy, cancelled } = body.value;
      within('ends', missing.length + busy.length + cancelled.length, MESSAGE_LIMITS.batch);
      return { kind: 'ended', missing, busy, cancelled };
    }
    case 'uplink':
      return { kind: 'uplink', down: body.value.down, up: body.value.up };
    case 'laneMoved':
      return { kind: 'lane-moved' };
    case 'laneAsk':
      return { kind: 'lane-ask', lanes: body.value.lanes };
    case 'laneTicket':
      return laneTicket(body.value);
    default:
      throw new MalformedMessage('no body');
  }
}

function laneTicket({ lane, port, id, secret, diallerSends }: LaneTicket): LaneMessage {
  if (lane === 0) return { kind: 'lane-ticket', ticket: undefined };
  const kind = kindOf(lane);
  if (kind === undefined) throw new MalformedMessage(`lane ${lane}`);
  within('port', port, 0xffff);
  // Without a port there is no door, and so no key to it.
  const [idBytes, secretBytes] = port === 0 ? [0, 0] : [TICKET_ID_BYTES, TICKET_SECRET_BYTES];
  if (id.length !== idBytes || secret.length !== secretBytes) throw new MalformedMessage('not a lane ticket');
  return { kind: 'lane-ticket', ticket: { kind, port, id, secret, diallerSends } };
}

function requestItems({ items, old }: Request): RequestItem[] {
  within('old chunks', old.length, items.length * MAX_LIKE_CHUNKS);
  const chunks = old.map(decodeCid);
  return items.map((item) => {
    const priority = PRIORITY_FROM_WIRE[item.priority];
    if (priority === undefined) throw new MalformedMessage(`priority ${item.priority}`);
    const of = item.cid.length > 0 ? { cid: decodeCid(item.cid) } : { handle: item.handle, index: item.index };
    within('like chunks', item.like.length, MAX_LIKE_CHUNKS);
    const like = item.like.map((place) => {
      const cid = chunks[place];
      if (cid === undefined) throw new MalformedMessage(`old chunk ${place} of ${chunks.length}`);
      return cid;
    });
    return { id: item.id, of, priority, like };
  });
}

function decodeCid(bytes: Uint8Array): CID {
  within('CID bytes', bytes.length, MESSAGE_LIMITS.cid);
  try {
    return CID.decode(bytes);
  } catch (cause) {
    throw new MalformedMessage('not a CID', { cause });
  }
}

function indexes(list: readonly number[], chunks: number): void {
  within('chunk numbers', list.length, MESSAGE_LIMITS.indexes);
  for (const index of list) if (index >= chunks) throw new MalformedMessage(`chunk ${index} of ${chunks}`);
}

function within(what: string, value: number, limit: number): void {
  if (value > limit) throw new MalformedMessage(`${value} ${what}, at most ${limit} allowed`);
}

type WireBody = NonNullable<MessageInitShape<typeof ExchangeMessageSchema>['body']>;

function bodyOf(message: Message): WireBody {
  switch (message.kind) {
    case 'hello':
      return { case: 'hello', value: { version: message.version, accepts: message.accepts, lanes: message.lanes } };
    case 'uplink':
      return { case: 'uplink', value: { down: message.down, up: message.up } };
    case 'lane-moved':
      return { case: 'laneMoved', value: {} };
    case 'lane-ask':
      return { case: 'laneAsk', value: { lanes: message.lanes } };
    case 'lane-ticket': {
      const { kind, ...ticket } = message.ticket ?? { kind: undefined };
      return { case: 'laneTicket', value: { ...ticket, lane: kind === undefined ? 0 : LANE_BITS[kind] } };
    }
    case 'subscribe': {
      const { set, have, kind: _, claimed, ...rest } = message;
      const map = have === 'all' ? { complete: true } : { have };
      return { case: 'subscribe', value: { ...rest, ...map, set: set.bytes, claimed: [...claimed] } };
    }
    case 'decline':
      return { case: 'decline', value: { handle: message.handle } };
    case 'unsubscribe':
      return { case: 'unsubscribe', value: { handle: message.handle } };
    case 'have': {
      const { handle, added, claimed, unclaimed, lost, wants, outside } = message;
      const lists = { added: [...added], claimed: [...claimed], unclaimed: [...unclaimed], lost: [...lost] };
      return { case: 'have', value: { handle, wants, outside, ...lists } };
    }
    case 'request':
      return { case: 'request', value: wireRequest(message.items) };
    case 'cancel':
      return { case: 'cancel', value: { ids: [...message.ids] } };
    case 'ended': {
      const { missing, busy, cancelled } = message;
      return { case: 'ended', value: { missing: [...missing], busy: [...busy], cancelled: [...cancelled] } };
    }
  }
}

function wireRequest(requested: readonly RequestItem[]) {
  /** Neighbouring chunks are like the same old ones: each is named once. */
  const old = new Map<string, { place: number; bytes: Uint8Array }>();
  const placeOf = (cid: CID) => {
    const key = cid.toString();
    const known = old.get(key) ?? { place: old.size, bytes: cid.bytes };
    old.set(key, known);
    return known.place;
  };
  const items = requested.map(({ id, of, priority, like }) => {
    const name = 'cid' in of ? { cid: of.cid.bytes } : { handle: of.handle, index: of.index };
    return { id, priority: PRIORITY_TO_WIRE[priority], like: like.map(placeOf), ...name };
  });
  return { items, old: [...old.values()].map(({ bytes }) => bytes) };
}
