import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { CourierSchema } from '../admission/admission_pb.ts';

/** What a person carries to where no network reaches: who belongs, who no longer, and the signed metadata behind it. */
export interface Courier {
  /** The fleet's signed metadata, by TUF's names. */
  readonly documents: ReadonlyMap<string, Uint8Array>;
  readonly statements: readonly Uint8Array[];
}

/** The file is none of `fleet courier export`, or not all of it. */
export class CourierInvalid extends Error {
  readonly code = 'COURIER_INVALID';
}

const MAGIC = Buffer.from('bootmesh-courier 1\n');
/** 16,384 members with all that can be said of each, and the metadata. */
export const MAX_COURIER_BYTES = 64 * 1024 * 1024;

export function writeCourier({ documents, statements }: Courier): Buffer {
  const named = [...documents].map(([name, bytes]) => ({ name, bytes }));
  const message = create(CourierSchema, { documents: named, statements: [...statements] });
  return Buffer.concat([MAGIC, toBinary(CourierSchema, message)]);
}

/** Throws `CourierInvalid`. What is in it proves itself, whoever carried it. */
export function readCourier(bytes: Uint8Array): Courier {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (!buffer.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new CourierInvalid('no courier’s file: `bootmesh fleet courier export` makes them');
  }
  try {
    const { documents, statements } = fromBinary(CourierSchema, buffer.subarray(MAGIC.length));
    return { documents: new Map(documents.map((each) => [each.name, each.bytes])), statements };
  } catch (cause) {
    const message = `a courier’s file that is damaged (${(cause as Error).message}): carry it again`;
    throw new CourierInvalid(message, { cause });
  }
}
