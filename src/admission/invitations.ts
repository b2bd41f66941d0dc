import { createHash, randomBytes } from 'node:crypto';
import { z } from 'zod';
import { durableDisk } from '../disk/durable-file.ts';
import { FileUnusable, readGuarded } from '../disk/guarded-file.ts';
import { MACHINE } from '../fleet/trust-list.ts';
import { AdmissionRefused } from './refusal.ts';
import { SECRET_BYTES } from './token.ts';

export interface InvitationFacts {
  /** Where the machine will belong. */
  readonly site: string;
  readonly roles: readonly string[];
  /** What it will be called; the machine says itself when absent. */
  readonly name?: string | undefined;
  /** The only machine that it lets in, as it is known by its hardware: `mac:…`, `serial:…`, `uuid:…`. */
  readonly machine?: string | undefined;
  /** Seconds since 1970. */
  readonly notAfter: number;
}

/** Who comes with a secret. */
interface Bearer {
  readonly peerId: string;
  /** What it says that it is known by. */
  readonly machine: readonly string[];
}

export interface Invitation extends InvitationFacts {
  /** Hex sha256 of its secret, which is nowhere but in the token. */
  readonly digest: string;
  /** Peer id of the machine that it let in. */
  readonly usedBy?: string | undefined;
}

const ADVICE = 'ask for a new one (`bootmesh fleet invite`)';
const MOST = 1024;
/** A token that was used or is too old is remembered for so long after its end, so that it is told apart from a wrong one, seconds. */
const REMEMBERED_S = 7 * 86_400;
const MAX_FILE_BYTES = 1024 * 1024;

const fileSchema = z.strictObject({
  format: z.literal(1),
  invitations: z
    .array(
      z.strictObject({
        digest: z.string().regex(/^[0-9a-f]{64}$/),
        site: z.string(),
        roles: z.array(z.string()),
        name: z.string().optional(),
        machine: z.string().regex(MACHINE).optional(),
        notAfter: z.int().min(0),
        usedBy: z.string().optional(),
      }),
    )
    .max(MOST),
});

/**
 * Whom this issuer has invited: each invitation lets in one machine, which may come again for the same certificate when
 * the first answer was lost. That one was used is on disk before its machine is let in.
 */
export class Invitations {
  readonly #file: string;
  #all: readonly Invitation[];
  #changes: Promise<unknown> = Promise.resolve();

  private constructor(file: string, all: readonly Invitation[]) {
    this.#file = file;
    this.#all = all;
  }

  /** Rejects with `FileUnusable`. */
  static async open(file: string): Promise<Invitations> {
    const json = await readGuarded(file, { maxBytes: MAX_FILE_BYTES });
    if (json === undefined) return new Invitations(file, []);
    try {
      return new Invitations(file, fileSchema.parse(JSON.parse(json.toString('utf8'))).invitations);
    } catch (cause) {
      const problem = `is damaged (${(cause as Error).message}): move it away, and invite again whom it invited`;
      throw new FileUnusable('corrupt', file, problem, { cause });
    }
  }

  /** The secret of a new invitation. Rejects with `AdmissionRefused` (busy) when there are too many. */
  async invite(facts: InvitationFacts, now: number): Promise<Uint8Array> {
    const secret = randomBytes(SECRET_BYTES);
    await this.#change(async () => {
      const kept = this.#all.filter(({ notAfter }) => now < notAfter + REMEMBERED_S);
      if (kept.length >= MOST) {
        throw new AdmissionRefused('busy', `${MOST} invitations are open or were lately: wait until some are over`);
      }
      await this.#keep([...kept, { ...facts, digest: digestOf(secret) }]);
    });
    return secret;
  }

  /**
   * What the secret stands for, whether it can still be used or not. Throws `AdmissionRefused`: token, and machine when it
   * is for another one.
   */
  find(secret: Uint8Array, { machine }: Pick<Bearer, 'machine'>): Invitation {
    const digest = digestOf(secret);
    const found = this.#all.find((one) => one.digest === digest);
    if (found === undefined) {
      throw new AdmissionRefused('token', `this door gave out no such token, or long ago: ${ADVICE}`);
    }
    if (found.machine === undefined || machine.includes(found.machine)) return found;
    // Which one it is for would help whoever has stolen it.
    const ids = machine.join(', ') || 'nothing that it could be known by';
    throw new AdmissionRefused('machine', `the token is for another machine, and this one has ${ids}: ${ADVICE}`);
  }

  /** Uses it up, for this machine. Rejects with `AdmissionRefused`: token, machine, expired, used. */
  async redeem(secret: Uint8Array, bearer: Bearer, now: number): Promise<Invitation> {
    return await this.#change(async () => {
      const { peerId } = bearer;
      const found = this.find(secret, bearer);
      const again = found.usedBy === peerId;
      if (found.usedBy !== undefined && !again) {
        const message = `the token was used already, by ${found.usedBy}; each lets in one machine: ${ADVICE}`;
        throw new AdmissionRefused('used', message);
      }
      if (now > found.notAfter) {
        const ended = new Date(found.notAfter * 1000).toISOString();
        throw new AdmissionRefused('expired', `the token's time was over at ${ended}: ${ADVICE}`);
      }
      const used = { ...found, usedBy: peerId };
      if (!again) await this.#keep(this.#all.map((one) => (one === found ? used : one)));
      return used;
    });
  }

  /** Until when some machine may still come; undefined when none may. */
  openUntil(now: number): number | undefined {
    const open = this.#all.filter(({ notAfter }) => now <= notAfter).map(({ notAfter }) => notAfter);
    return open.length === 0 ? undefined : Math.max(...open);
  }

  async #keep(all: readonly Invitation[]): Promise<void> {
    await durableDisk.replace(this.#file, Buffer.from(JSON.stringify({ format: 1, invitations: all })));
    this.#all = all;
  }

  /** One change at a time: of two machines with one token, one is let in. */
  async #change<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#changes.then(act);
    this.#changes = done.catch(() => undefined);
    return await done;
  }
}

function digestOf(secret: Uint8Array): string {
  return createHash('sha256').update(secret).digest('hex');
}
