import { hostname } from 'node:os';
import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import { connectAdmin } from '../admin/admin-client.ts';
import { OperationError } from '../admin/operations.ts';
import { AdmissionRefused } from '../admission/refusal.ts';
import { parseDuration } from '../fleet/quantity.ts';
import { createLog } from '../observe/log.ts';
import { addVerb, perform, usageError } from './session.ts';

export function addJoin(program: Command): void {
  addVerb(program, 'join', {
    summary: 'make this machine a member of the fleet that a token is of',
    examples: ['join bm1.CiDg…', 'join bm1.CiDg… --name edge-7', 'join - < token'],
  })
    .argument('<token>', 'printed by `bootmesh fleet invite` on a node that admits; - reads it from standard input')
    .option('--name <name>', 'what this machine is called (default: its host name)')
    .option('--wait <time>', 'how long a door that does not answer is tried', '30s')
    .action(async (given: string, { name = hostname(), wait }: { name?: string; wait: string }, command: Command) => {
      await perform(command, async (session) => {
        const seconds = parseDuration(wait);
        if (seconds === undefined) throw usageError(`--wait ${wait} is no time: write 30s or 5min`);
        const { data } = await session.config();
        if ((await connectAdmin(data)) !== undefined) {
          throw new OperationError('BUSY', `an agent is running on ${data}: stop it, join, and start it again`);
        }
        const token = given === '-' ? await text(process.stdin) : given;
        const { join } = await import('../enrolment/join.ts');
        let told = false;
        const onRetry = ({ message }: Error) => {
          if (!told) session.note(`${message} (tried again for ${wait})`);
          told = true;
        };
        const log = createLog({ level: 'error' });
        const options = { name, log, signal: session.signal, patienceMs: seconds * 1000, onRetry };
        const { fleet, certificate } = await join(data, token, options).catch(unreachable);
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

function unreachable(error: unknown): never {
  if (!(error instanceof AdmissionRefused) || error.reason !== 'unreachable') throw error;
  throw new OperationError('UNREACHABLE', error.message, { cause: error });
}
