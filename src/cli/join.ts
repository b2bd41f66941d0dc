import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { multiaddr } from '@multiformats/multiaddr';
import type { Command } from 'commander';
import { connectAdmin } from '../admin/admin-client.ts';
import { OperationError } from '../admin/operations.ts';
import type { DoorFacts } from '../admission/knock.ts';
import { AdmissionRefused } from '../admission/refusal.ts';
import { parseDuration } from '../fleet/quantity.ts';
import { createLog } from '../observe/log.ts';
import { addVerb, perform, usageError } from './session.ts';

interface JoinFlags {
  readonly name?: string;
  readonly root?: string;
  readonly door?: string;
  readonly wait?: string;
}

export function addJoin(program: Command): void {
  addVerb(program, 'join', {
    summary: 'make this machine a member of a fleet',
    examples: ['join bm1.CiDg…', 'join bm1.CiDg… --name edge-7', 'join - < token', 'join --root root.json --wait 1h'],
  })
    .argument('[token]', 'printed by `bootmesh fleet invite` on a node that admits; - reads it from standard input')
    .option('--name <name>', 'what this machine is called (default: its host name)')
    .option('--root <file>', 'without a token: the fleet’s root.json; then an operator approves, or its list allows')
    .option(
      '--door <multiaddr>',
      'without a token: who is asked, such as /ip4/192.0.2.1/tcp/4003 (default: this segment)',
    )
    .option('--wait <time>', 'how long it is tried (default: 30s; 10min without a token)')
    .action(async (token: string | undefined, flags: JoinFlags, command: Command) => {
      await perform(command, async (session) => {
        const { name = hostname(), wait = token === undefined ? '10min' : '30s' } = flags;
        const seconds = parseDuration(wait);
        if (seconds === undefined) throw usageError(`--wait ${wait} is no time: write 30s or 5min`);
        const door = await doorOf(token, flags);
        const { data } = await session.config();
        if ((await connectAdmin(data)) !== undefined) {
          throw new OperationError('BUSY', `an agent is running on ${data}: stop it, join, and start it again`);
        }
        let told: string | undefined;
        const onRetry = ({ message }: Error) => {
          if (told !== message) session.note(`${message} (tried again for ${wait})`);
          told = message;
        };
        const { join } = await import('../enrolment/join.ts');
        const log = createLog({ level: 'error' });
        const options = { name, log, signal: session.signal, patienceMs: seconds * 1000, onRetry };
        const { fleet, certificate } = await join(data, door, options).catch(unreachable);
        const { site, address, peerId } = certificate;
        const notAfter = new Date(certificate.notAfter * 1000).toISOString();
        const result = { fleet, peerId, name: certificate.name, site, address, notAfter, data };
        const lines = [
          `${certificate.name} is a member of fleet ${fleet}, site ${site}, until ${notAfter}; it is renewed by itself`,
          'start it: bootmesh up',
        ];
        return { result, text: lines.join('\n') };
      });
    });
}

async function doorOf(token: string | undefined, { root, door }: JoinFlags): Promise<DoorFacts> {
  if (token !== undefined) {
    if (root !== undefined || door !== undefined) throw usageError('a token says all that --root and --door say');
    const { readToken } = await import('../admission/token.ts');
    try {
      return readToken(token === '-' ? await text(process.stdin) : token);
    } catch (error) {
      throw error instanceof AdmissionRefused ? usageError(error.message) : error;
    }
  }
  if (root === undefined) throw usageError('name a token, or the fleet’s root.json with --root');
  if (door !== undefined && !isMultiaddr(door))
    throw usageError(`--door ${door} is none: write /ip4/192.0.2.1/tcp/4003`);
  const rootDigest = createHash('sha256')
    .update(await readFile(resolve(root)))
    .digest('hex');
  return { rootDigest, addresses: door === undefined ? [] : [door], secret: new Uint8Array() };
}

function isMultiaddr(text: string): boolean {
  try {
    return multiaddr(text).getComponents().length > 1;
  } catch {
    return false;
  }
}

function unreachable(error: unknown): never {
  if (!(error instanceof AdmissionRefused) || error.reason !== 'unreachable') throw error;
  throw new OperationError('UNREACHABLE', error.message, { cause: error });
}
