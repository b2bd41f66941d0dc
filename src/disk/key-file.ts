import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { durableDisk } from './durable-file.ts';
import { FileUnusable, readGuarded } from './guarded-file.ts';

const MAX_KEY_BYTES = 4096;

export function newSigningKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}

/** Keeps an ed25519 private key (PKCS#8 PEM, mode 0600); false when there is a file of that name: keys are never replaced. */
export async function createKeyFile(file: string, key: KeyObject): Promise<boolean> {
  return await durableDisk.create(file, Buffer.from(key.export({ format: 'pem', type: 'pkcs8' })));
}

/** The ed25519 private key in a file; undefined when there is none. Rejects with `FileUnusable`. */
export async function readKeyFile(file: string): Promise<KeyObject | undefined> {
  const pem = await readGuarded(file, { maxBytes: MAX_KEY_BYTES });
  if (pem === undefined) return undefined;
  try {
    const key = createPrivateKey(pem.toString('latin1'));
    if (key.asymmetricKeyType !== 'ed25519') throw new TypeError(`a key of type ${key.asymmetricKeyType}`);
    return key;
  } catch (cause) {
    const problem = `is damaged (${(cause as Error).message}): restore it from a backup`;
    throw new FileUnusable('corrupt', file, problem, { cause });
  }
}
