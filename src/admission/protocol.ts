import { type DescMessage, fromBinary, type MessageShape, toBinary } from '@bufbuild/protobuf';
import type { Stream } from '@libp2p/interface';
import { lpStream } from '@libp2p/utils';

export const ADMISSION_PROTOCOL = '/bootmesh/admit/1.0.0';
/** Service name of doors in the segment's multicast DNS, for machines without a token. */
export const DOOR_MDNS = '_bootmesh-door._udp.local';
/** Ways by which a machine may be known. */
export const MAX_MACHINE_IDS = 16;

/** What strangers write is shown to people, on terminals that obey some of it. */
export const UNPRINTABLE = /[^\x20-\x7e]/g;

/** Bytes per message; a longer one ends the conversation unread. */
export const MESSAGE_BYTES = { knock: 1024, challenge: 1024, proof: 64, verdict: 4 * 1024 * 1024 } as const;
/** A conversation of four messages takes so long at most, milliseconds. */
export const CONVERSATION_MS = 5_000;

/** Messages with their lengths in front, over one stream. */
export interface Conversation {
  say<T extends DescMessage>(schema: T, message: MessageShape<T>): Promise<void>;
  /** Rejects when the other side ends, is too slow, or says more than `maxBytes`. */
  hear<T extends DescMessage>(schema: T, maxBytes: number): Promise<{ message: MessageShape<T>; bytes: Uint8Array }>;
}

export function converse(stream: Stream, mostBytes: number, signal: AbortSignal): Conversation {
  const messages = lpStream(stream, { maxDataLength: mostBytes, maxBufferSize: mostBytes + 1024 });
  return {
    say: (schema, message) => messages.write(toBinary(schema, message), { signal }),
    hear: async (schema, maxBytes) => {
      const bytes = (await messages.read({ signal })).subarray();
      if (bytes.length > maxBytes) throw new RangeError(`a message of ${bytes.length} bytes, more than ${maxBytes}`);
      return { message: fromBinary(schema, bytes), bytes };
    },
  };
}
