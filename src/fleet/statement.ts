import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { StatementSchema } from './membership_pb.ts';

/** A word of the fleet about a member that does not count; `reason` is what a caller acts on, the message what to do. */
export class StatementRefused extends Error {
  readonly code = 'STATEMENT_REFUSED';
  readonly reason:
    | 'malformed'
    | 'kind'
    | 'signature'
    | 'fleet'
    | 'issuer'
    | 'site'
    | 'role'
    | 'lifetime'
    | 'epoch'
    | 'early'
    | 'revoked'
    | 'taken'
    | 'stranger'
    | 'full';

  constructor(reason: StatementRefused['reason'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'StatementRefused';
    this.reason = reason;
  }
}

export type StatementKind = 'certificate' | 'revocation' | 'binding';

/** Bytes of one statement: a certificate has some 250. */
export const STATEMENT_BYTES = 1024;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** SubjectPublicKeyInfo of an ed25519 key up to the key itself (RFC 8410). */
const SPKI = Buffer.from('302a300506032b6570032100', 'hex');

/** Signs `body`, and returns the statement as it is stored and sent. */
export function sealStatement(kind: StatementKind, body: Uint8Array, privateKey: KeyObject): Uint8Array {
  const signature = sign(null, toSign(kind, body), privateKey);
  return encode(kind, body, rawPublicKey(privateKey), signature);
}

/** A statement that is well formed. Nothing in it is believed before `isSigned`, and then as far as its signer may say it. */
export interface OpenedStatement {
  readonly kind: StatementKind;
  readonly body: Uint8Array;
  /** Hex of the raw ed25519 public key. */
  readonly signer: string;
  /** As it is kept and passed on: one form, however it came, so that nobody makes it look new by writing it otherwise. */
  readonly bytes: Uint8Array;
  isSigned(): boolean;
}

/** Throws `StatementRefused` (malformed). */
export function openStatement(bytes: Uint8Array): OpenedStatement {
  if (bytes.length > STATEMENT_BYTES) {
    throw new StatementRefused(
      'malformed',
      `a statement of ${bytes.length} bytes; at most ${STATEMENT_BYTES} are read`,
    );
  }
  const { says, signer, signature } = parse(bytes);
  if (signer.length !== KEY_BYTES || signature.length !== SIGNATURE_BYTES) {
    throw new StatementRefused('malformed', 'not a signed statement');
  }
  // Members may run a later version than we do: it is no lie that they tell.
  if (says.case === undefined)
    throw new StatementRefused('kind', 'a kind of statement that this version does not know');
  const { case: kind, value: body } = says;
  return {
    kind,
    body,
    signer: Buffer.from(signer).toString('hex'),
    bytes: encode(kind, body, signer, signature),
    isSigned: () => verify(null, toSign(kind, body), publicKey(signer), signature),
  };
}

/** The 32 bytes of an ed25519 key's public half. */
export function rawPublicKey(privateKey: KeyObject): Uint8Array {
  const { x = '' } = createPublicKey(privateKey).export({ format: 'jwk' });
  return Buffer.from(x, 'base64url');
}

function publicKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI, raw]), format: 'der', type: 'spki' });
}

function encode(kind: StatementKind, body: Uint8Array, signer: Uint8Array, signature: Uint8Array): Uint8Array {
  return toBinary(StatementSchema, create(StatementSchema, { says: { case: kind, value: body }, signer, signature }));
}

function parse(bytes: Uint8Array) {
  try {
    return fromBinary(StatementSchema, bytes, { readUnknownFields: false });
  } catch (cause) {
    throw new StatementRefused('malformed', 'not a signed statement', { cause });
  }
}

/** Keeps a signature made for one kind from meaning anything elsewhere. */
function toSign(kind: StatementKind, body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(`bootmesh-${kind}-v1\0`), body]);
}
