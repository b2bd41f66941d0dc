/**
 * A fleet's statements: `make` writes them, `read` starts from them as a node does, and says what that cost. As a program,
 * since memory that another phase has touched would hide what this one needs.
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { issueCertificate } from '../../src/fleet/certificate.ts';
import { MemberStore } from '../../src/fleet/member-store.ts';
import { Members } from '../../src/fleet/members.ts';
import { rawPublicKey } from '../../src/fleet/statement.ts';
import { MEMBER_ROLES, readTrustList, type TrustList, writeTrustList } from '../../src/fleet/trust-list.ts';
import { silentLog } from '../../src/observe/log.ts';

export interface RosterReport {
  readonly certificates: number;
  readonly milliseconds: number;
  readonly cpu_s: number;
  /** Of resident memory, after what can be collected was. */
  readonly rss_growth_mb: number;
}

const DAY_S = 86_400;
const SITES = 50;

if (import.meta.main) {
  const [verb, file = '', count = '0'] = process.argv.slice(2);
  const report = verb === 'make' ? await make(file, Number(count)) : await read(file);
  console.log(JSON.stringify(report));
}

async function make(file: string, count: number) {
  const key = generateKeyPairSync('ed25519').privateKey;
  const issuer = { key: Buffer.from(rawPublicKey(key)).toString('hex'), roles: MEMBER_ROLES, maxDays: 90 };
  const trust: TrustList = {
    fleetId: '0'.repeat(32),
    epoch: 1,
    sites: Object.fromEntries(Array.from({ length: SITES }, (_, n) => [`site-${n}`, n + 1])),
    issuers: [{ ...issuer, name: 'owner' }],
  };
  const now = Math.floor(Date.now() / 1000);
  const statements: Uint8Array[] = [];
  for (let n = 0; n < count; n += 1) {
    const seed = createHash('sha256').update(`member ${n}`).digest();
    const peerId = peerIdFromPrivateKey(await generateKeyPairFromSeed('Ed25519', seed)).toString();
    const names = { name: `node-${n}`, site: `site-${n % SITES}`, roles: [] };
    const times = { since: now, notBefore: now, notAfter: now + 60 * DAY_S };
    const facts = { peerId, wireguardKey: seed.toString('base64'), ...names, ...times };
    statements.push(issueCertificate(facts, key, trust).bytes);
  }
  const store = new MemberStore(file, { log: silentLog });
  store.keep(() => statements);
  await store.flush();
  await writeFile(`${file}.trust`, writeTrustList(trust));
  return { certificates: count };
}

async function read(file: string): Promise<RosterReport> {
  const trust = readTrustList(JSON.parse(await readFile(`${file}.trust`, 'utf8')));
  const before = await settledRss();
  const cpu = process.cpuUsage();
  const from = performance.now();
  const members = new Members({ trust, now: () => Date.now() / 1000 });
  for (const bytes of await new MemberStore(file, { log: silentLog }).read()) members.hear(bytes);
  const certificates = members.members.length;
  const milliseconds = Math.round(performance.now() - from);
  const { user, system } = process.cpuUsage(cpu);
  const rss = (await settledRss()) - before;
  const alive = members.members.length;
  if (alive !== certificates) throw new Error('members were lost while memory was collected');
  return { certificates, milliseconds, cpu_s: (user + system) / 1e6, rss_growth_mb: Number((rss / 1e6).toFixed(1)) };
}

async function settledRss(): Promise<number> {
  for (let n = 0; n < 3; n += 1) {
    globalThis.gc?.();
    await delay(100);
  }
  return process.memoryUsage().rss;
}
