import { createHash, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { type Certificate, type CertificateFacts, issueCertificate } from '../../src/fleet/certificate.ts';
import type { Identity } from '../../src/fleet/identity.ts';
import { type Revocation, revoke } from '../../src/fleet/revocation.ts';
import { rawPublicKey } from '../../src/fleet/statement.ts';
import { type Issuer, MEMBER_ROLES, type TrustList } from '../../src/fleet/trust-list.ts';

/** 2026-01-01, in seconds. */
export const T0 = 1_767_225_600;
export const DAY_S = 86_400;

/** A fleet with sites `hq` and `edge`: issuer `owner` for all, issuer `edge` for its site, plain members, 30 days. */
export class IssuingFleet {
  readonly trust: TrustList;
  readonly #keys: Readonly<Record<string, KeyObject>>;

  constructor({ fleetId = '00112233445566778899aabbccddeeff' } = {}) {
    this.#keys = { owner: newKey(), edge: newKey() };
    this.trust = {
      fleetId,
      epoch: 3,
      sites: { hq: 1, edge: 2 },
      issuers: [
        this.#issuer({ name: 'owner', roles: MEMBER_ROLES, maxDays: 365 }),
        this.#issuer({ name: 'edge', site: 'edge', roles: ['seed'], maxDays: 30 }),
      ],
    };
  }

  key(issuer: string): KeyObject {
    const key = this.#keys[issuer];
    if (key === undefined) throw new TypeError(`no issuer ${issuer}`);
    return key;
  }

  certify(facts: Partial<CertificateFacts> & { readonly peerId: string }, by = 'owner'): Certificate {
    return issueCertificate(factsOf(facts), this.key(by), this.trust);
  }

  revoke(peerId: string, { site = 'edge', by = 'owner' } = {}): Revocation {
    return revoke({ peerId, site, at: T0 + DAY_S, why: 'lost' }, this.key(by), this.trust);
  }

  #issuer(issuer: Omit<Issuer, 'key'>): Issuer {
    return { ...issuer, key: Buffer.from(rawPublicKey(this.key(issuer.name))).toString('hex') };
  }
}

export function factsOf(facts: Partial<CertificateFacts> & { readonly peerId: string }): CertificateFacts {
  return {
    wireguardKey: createHash('sha256').update(facts.peerId).digest('base64'),
    name: 'edge-1',
    site: 'edge',
    roles: [],
    since: T0,
    notBefore: T0,
    notAfter: T0 + 30 * DAY_S,
    ...facts,
  };
}

/** Identities, the same for the same number. */
export async function identities(count: number): Promise<Identity[]> {
  const made = Array.from({ length: count }, async (_, n) => {
    const seed = createHash('sha256').update(`peer ${n}`).digest();
    const privateKey = await generateKeyPairFromSeed('Ed25519', seed);
    return { privateKey, peerId: peerIdFromPrivateKey(privateKey).toString() };
  });
  return await Promise.all(made);
}

export async function peerIds(count: number): Promise<string[]> {
  return (await identities(count)).map(({ peerId }) => peerId);
}

export function newWireguardKey(): string {
  return randomBytes(32).toString('base64');
}

function newKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}
