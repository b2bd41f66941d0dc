import { createHash, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { canonicalize } from '@tufjs/canonical-json';
import { Key, type Metadata, type Root, Signature, type Snapshot, type Targets, type Timestamp } from '@tufjs/models';
import { rawPublic } from './ticket.ts';

/** An ed25519 key that signs metadata. */
export interface SigningKey {
  readonly privateKey: KeyObject;
  /** The public half, as metadata lists it. */
  readonly key: Key;
}

export function signingKey(privateKey: KeyObject): SigningKey {
  const keyVal = { public: rawPublic(createPublicKey(privateKey)).toString('hex') };
  const facts = { keytype: 'ed25519', scheme: 'ed25519', keyval: keyVal };
  // TUF 1.0.31, section 4.2: the id is the sha256 of the key's canonical form.
  const keyID = createHash('sha256').update(canonicalize(facts)).digest('hex');
  return { privateKey, key: new Key({ keyID, keyType: facts.keytype, scheme: facts.scheme, keyVal }) };
}

/** Signs, and returns the document as it is stored and sent. */
export function signed(metadata: Metadata<Root | Targets | Snapshot | Timestamp>, ...keys: SigningKey[]): Buffer {
  for (const { privateKey, key } of keys) {
    metadata.sign((data) => new Signature({ keyID: key.keyID, sig: sign(null, data, privateKey).toString('hex') }));
  }
  return Buffer.from(JSON.stringify(metadata.toJSON()));
}
