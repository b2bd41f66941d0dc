/**
 * Many strangers that knock at one port, again and again and all at once: a program, so that it has an address of its
 * own, and a share of the processor that another program limits. Told by lines of JSON what to knock at, and `null` for
 * an end; answers each with a line.
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { peerIdFromPrivateKey } from '@libp2p/peer-id';
import { issueCertificate } from '../../src/fleet/certificate.ts';
import { rawPublicKey } from '../../src/fleet/statement.ts';
import { MEMBER_ROLES, type TrustList } from '../../src/fleet/trust-list.ts';
import { type Aim, type Reached, Stranger } from './stranger.ts';

export interface GeneratorPlan {
  readonly strangers: number;
  /** IPv4 addresses that it has, the first two numbers: `10.88`. */
  readonly network: string;
  /** Of one processor; what it does beyond that it makes up for by waiting. Absent: somebody else limits it. */
  readonly share?: number;
}

export interface Target {
  readonly host: string;
  readonly port: number;
  readonly aim: Aim;
}

export interface KnockReport {
  readonly seconds: number;
  readonly cpu_s: number;
  /** Knocks that ended, by how far they got at most. */
  readonly knocks: Readonly<Record<Reached, number>>;
}

const DAY_S = 86_400;
/** How often a generator that limits itself looks at what it has used, milliseconds. */
const LOOK_MS = 20;
/** A port that refuses at once is not asked again in the same turn of the loop, milliseconds. */
const PAUSE_MS = 1;

class Attack {
  readonly #over = new AbortController();
  readonly #from = performance.now();
  readonly #cpu = process.cpuUsage();
  readonly #knocks: Record<Reached, number> = { nowhere: 0, connected: 0, proven: 0, answered: 0 };
  readonly #running: Promise<unknown>;
  readonly #share: number | undefined;

  constructor(strangers: readonly Stranger[], target: Target, share: number | undefined) {
    this.#share = share;
    this.#running = Promise.all(strangers.map((stranger) => this.#knock(stranger, target)));
  }

  async end(): Promise<KnockReport> {
    const report = {
      seconds: (performance.now() - this.#from) / 1000,
      cpu_s: this.#used(),
      knocks: { ...this.#knocks },
    };
    this.#over.abort();
    await this.#running;
    return report;
  }

  async #knock(stranger: Stranger, target: Target): Promise<void> {
    const { signal } = this.#over;
    while (!signal.aborted) {
      this.#knocks[await stranger.knock(target)] += 1;
      await delay(PAUSE_MS);
      while (!signal.aborted && this.#isOver()) await delay(LOOK_MS);
    }
  }

  #isOver(): boolean {
    if (this.#share === undefined) return false;
    return this.#used() > (this.#share * (performance.now() - this.#from)) / 1000;
  }

  #used(): number {
    const { user, system } = process.cpuUsage(this.#cpu);
    return (user + system) / 1e6;
  }
}

/** Every other one has a certificate, of a fleet that it has made up. */
async function gather({ strangers, network }: GeneratorPlan): Promise<Stranger[]> {
  const certify = newFleet();
  const all: Stranger[] = [];
  for (let n = 0; n < strangers; n += 1) {
    const seed = createHash('sha256').update(`stranger ${n}`).digest();
    const privateKey = await generateKeyPairFromSeed('Ed25519', seed);
    const certificate = n % 2 === 0 ? certify(peerIdFromPrivateKey(privateKey).toString(), seed) : undefined;
    const address = `${network}.${1 + Math.floor(n / 250)}.${1 + (n % 250)}`;
    all.push(new Stranger({ privateKey, address, certificate }));
  }
  return all;
}

function newFleet(): (peerId: string, seed: Uint8Array) => Uint8Array {
  const key = generateKeyPairSync('ed25519').privateKey;
  const issuer = { key: Buffer.from(rawPublicKey(key)).toString('hex'), roles: MEMBER_ROLES, maxDays: 90 };
  const trust: TrustList = {
    fleetId: 'f'.repeat(32),
    epoch: 1,
    sites: { default: 1 },
    issuers: [{ ...issuer, name: 'nobody' }],
  };
  const since = Math.floor(Date.now() / 1000);
  const times = { since, notBefore: since, notAfter: since + 30 * DAY_S };
  return (peerId, seed) => {
    const facts = { peerId, wireguardKey: Buffer.from(seed).toString('base64'), name: 'stranger', site: 'default' };
    return issueCertificate({ ...facts, roles: [], ...times }, key, trust).bytes;
  };
}

if (import.meta.main) {
  const plan = JSON.parse(process.argv[2] ?? '') as GeneratorPlan;
  const strangers = await gather(plan);
  const say = (line: unknown) => process.stdout.write(`${JSON.stringify(line)}\n`);
  say('ready');
  let attack: Attack | undefined;
  for await (const line of createInterface({ input: process.stdin })) {
    const target = JSON.parse(line) as Target | null;
    if (target === null) say(await attack?.end());
    attack = target === null ? undefined : new Attack(strangers, target, plan.share);
  }
  process.exit(0);
}
