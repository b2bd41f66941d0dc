import { resolve } from 'node:path';
import type { Command } from 'commander';
import { OperationError } from '../admin/operations.ts';
import { whole } from '../admin/received-file.ts';
import type { MemberLine } from '../admin/results.ts';
import { parseDuration } from '../fleet/quantity.ts';
import { addVerb, perform, usageError } from './session.ts';
import { revokedBy } from './status.ts';

const list = (text: string) => text.split(',').map((item) => item.trim());

export function addFleet(program: Command): void {
  const fleet = program.command('fleet').description('the keys of a fleet, and who belongs to it');
  addInit(fleet);
  addInvite(fleet);
  addPending(fleet);
  addApprove(fleet);
  addAllow(fleet);
  addMembers(fleet);
  addShow(fleet);
  addRenew(fleet);
  addRevoke(fleet);
  addIssuer(fleet);
  addCourier(fleet);
}

function addInit(fleet: Command): void {
  addVerb(fleet, 'init', {
    summary: 'make the keys of a new fleet; nodes trust its root.json, machines its ticket.pub',
    examples: ['fleet init my-fleet --keys /etc/bootmesh/keys', 'fleet init lab --keys ./keys --sites hq,edge'],
  })
    .argument('<name>', 'the fleet’s name, as in its description')
    .requiredOption('--keys <directory>', 'is made; keys that are there are never touched')
    .option('--channels <names>', 'separated by commas', list, ['production', 'testing', 'development'])
    .option('--sites <names>', 'separated by commas; more can be added', list, ['default'])
    .action(async (name: string, flags: { keys: string; channels: string[]; sites: string[] }, command: Command) => {
      await perform(command, async () => {
        const { createFleet } = await import('../enrolment/new-fleet.ts');
        const directory = resolve(flags.keys);
        const { channels, sites } = flags;
        const { fleetId } = await createFleet(directory, { fleet: name, channels, sites });
        const text = `keys of fleet ${name} in ${directory}: give root.json to every node, keep the rest safe`;
        return { result: { fleet: name, fleetId, keys: directory, channels, sites }, text };
      });
    });
}

function addInvite(fleet: Command): void {
  addVerb(fleet, 'invite', {
    summary: 'print a token with which one machine can join',
    examples: [
      'fleet invite',
      'fleet invite --site edge --name edge-7 --for 15min',
      'fleet invite --roles gateway,seed',
      'fleet invite --machine mac:52:54:00:12:34:56 --qr',
    ],
  })
    .option('--site <site>', 'where the machine belongs (default: this node’s site)')
    .option('--name <name>', 'what it will be called (default: its host name)')
    .option('--roles <roles>', 'separated by commas: gateway, origin, seed, canary', list)
    .option('--machine <id>', 'the only machine that may use it: mac:…, serial:… or uuid:… (default: any)')
    .option('--qr', 'show the token as a QR code as well')
    .option('--for <time>', 'how long the token can be used, such as 15min, 1h, 2d', '1h')
    .action(async (flags: PlaceFlags & { for: string; machine?: string; qr?: true }, command: Command) => {
      await perform(command, async (session) => {
        const seconds = parseDuration(flags.for);
        if (seconds === undefined) throw usageError(`--for ${flags.for} is no time: write 15min, 1h or 2d`);
        const machine = flags.machine?.toLowerCase();
        const input = { ...placeOf(flags), ...(machine !== undefined && { machine }), seconds };
        const result = await (await session.operations()).invite(input, session.options);
        session.note(
          `for ${machine ?? 'one machine'} of site ${result.site}, until ${result.notAfter}; whoever has it can join, so keep it to those two`,
        );
        const lines = [`bootmesh join ${result.token}`];
        if (flags.qr) lines.push(...(await import('../admission/qr-code.ts')).qrLines(result.token));
        return { result, text: lines.join('\n') };
      });
    });
}

function addPending(fleet: Command): void {
  addVerb(fleet, 'pending', {
    summary: 'machines without a token that wait to be let in here (`door.requests: true`)',
    examples: ['fleet pending', 'fleet pending --json'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const result = await (await session.operations()).pending({}, session.options);
      const lines = result.pending.map(
        ({ name, peerId, machine }) => `${name.padEnd(12)} ${peerId}  ${machine.join(', ')}`,
      );
      return { result, text: lines.length === 0 ? 'nobody waits' : lines.join('\n') };
    });
  });
}

function addApprove(fleet: Command): void {
  addVerb(fleet, 'approve', {
    summary: 'let in a machine that waits; it is a member the next time it asks, seconds later',
    examples: [
      'fleet approve edge-7',
      'fleet approve 12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp --site edge',
    ],
  })
    .argument('<machine>', 'its peer id, or its name; see `bootmesh fleet pending`')
    .option('--site <site>', 'where it belongs (default: this node’s site)')
    .option('--name <name>', 'what it will be called (default: what it calls itself)')
    .option('--roles <roles>', 'separated by commas: gateway, origin, seed, canary', list)
    .action(async (machine: string, flags: PlaceFlags, command: Command) => {
      await perform(command, async (session) => {
        const input = { machine, ...placeOf(flags) };
        const result = await (await session.operations()).approve(input, session.options);
        return { result, text: `${result.name} (${result.peerId}) is let in` };
      });
    });
}

function addAllow(fleet: Command): void {
  addVerb(fleet, 'allow', {
    summary:
      'let a machine in by its hardware, without a token: for machines without a disk, which have new keys each time',
    examples: ['fleet allow mac:52:54:00:12:34:56 --site edge --name edge-7 --keys /etc/bootmesh/keys'],
  })
    .argument('<machine>', 'mac:…, serial:… or uuid:…; whoever is on the segment can say that it is this one')
    .requiredOption('--keys <directory>', 'the fleet’s own keys; a running agent on them makes it known within seconds')
    .requiredOption('--site <site>', 'where it belongs')
    .requiredOption('--name <name>', 'what it is called')
    .option('--roles <roles>', 'separated by commas: seed, canary', list, [])
    .action(async (machine: string, flags: Required<PlaceFlags> & { keys: string }, command: Command) => {
      await perform(command, async () => {
        const { allowMachine } = await import('../enrolment/issuers.ts');
        const { site, name, roles } = flags;
        await allowMachine(resolve(flags.keys), { machine, site, name, roles });
        return { result: { machine, site, name, roles }, text: `${machine} is let in as ${name}, to ${site}` };
      });
    });
}

interface PlaceFlags {
  readonly site?: string;
  readonly name?: string;
  readonly roles?: string[];
}

function placeOf({ site, name, roles }: PlaceFlags) {
  return { ...(site !== undefined && { site }), ...(name !== undefined && { name }), ...(roles && { roles }) };
}

function addMembers(fleet: Command): void {
  addVerb(fleet, 'ls', {
    summary: 'all members by certificate, and those who are none any more',
    examples: ['fleet ls', 'fleet ls --json'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const result = await (await session.operations()).members({}, session.options);
      const { members } = result;
      return { result, text: members.length === 0 ? 'no members by certificate' : members.map(describe).join('\n') };
    });
  });
}

function addShow(fleet: Command): void {
  addVerb(fleet, 'show', {
    summary: 'all that is known of one member',
    examples: ['fleet show edge-7', 'fleet show 12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp --json'],
  })
    .argument('<member>', 'its name or its peer id; see `bootmesh fleet ls`')
    .action(async (member: string, _flags: unknown, command: Command) => {
      await perform(command, async (session) => {
        const { members } = await (await session.operations()).members({}, session.options);
        const found = members.filter(({ name, peerId }) => name === member || peerId === member);
        if (found.length === 0) {
          const advice = '`bootmesh fleet ls` lists all';
          throw new OperationError('NOT_FOUND', `nobody here is called ${member}: ${advice}`);
        }
        const lines = found.flatMap(({ revoked, ...one }) => [
          ...Object.entries(one).map(([key, value]) => `${key.padEnd(10)} ${value}`),
          ...(revoked ? [`${'revoked'.padEnd(10)} ${revokedBy(revoked)}`] : []),
        ]);
        return { result: { members: found }, text: lines.join('\n') };
      });
    });
}

function addRenew(fleet: Command): void {
  addVerb(fleet, 'renew', {
    summary: 'give a member its next certificate now, with other roles if you like; by itself it gets one in time',
    examples: ['fleet renew', 'fleet renew edge-7 --roles gateway,seed'],
  })
    .argument('[member]', 'its name or its peer id (default: this node)')
    .option(
      '--roles <roles>',
      'separated by commas: gateway, origin, seed, canary; - for none (default: as they are)',
      list,
    )
    .action(async (member: string | undefined, { roles }: { roles?: string[] }, command: Command) => {
      await perform(command, async (session) => {
        const named = roles?.filter((role) => role !== '-');
        const input = { ...(member !== undefined && { member }), ...(named && { roles: named }) };
        const result = await (await session.operations()).renew(input, session.options);
        return { result, text: `${result.name} (${result.peerId}) is a member until ${result.notAfter}` };
      });
    });
}

function addRevoke(fleet: Command): void {
  addVerb(fleet, 'revoke', {
    summary: 'take a member’s membership away, for good: its key is never admitted again',
    examples: ['fleet revoke edge-7 --why stolen', 'fleet revoke 12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'],
  })
    .argument('<member>', 'its name or its peer id; see `bootmesh fleet ls`')
    .option('--why <words>', 'for those who look later', '')
    .action(async (member: string, { why }: { why: string }, command: Command) => {
      await perform(command, async (session) => {
        const result = await (await session.operations()).revoke({ member, why }, session.options);
        return { result, text: `${result.name} (${result.peerId}) is no member any more` };
      });
    });
}

function addIssuer(fleet: Command): void {
  const issuer = fleet.command('issuer').description('keys that may admit machines');
  addVerb(issuer, 'add', {
    summary: 'make a key that admits to one site, also when that site is cut off',
    examples: ['fleet issuer add edge --site edge --keys /etc/bootmesh/keys --out ./issuer.key'],
  })
    .argument('<name>', 'of the issuer')
    .requiredOption('--keys <directory>', 'the fleet’s own keys; a running agent on them makes it known within seconds')
    .requiredOption(
      '--out <file>',
      'where the new key is put; it belongs on a node of the site, as <data>/fleet/issuer.key',
    )
    .option('--site <site>', 'the only site that it admits to; added to the fleet when it is new (default: all sites)')
    .option('--roles <roles>', 'what it may make of a machine, separated by commas', list, ['seed'])
    .option('--days <days>', 'longest life of its certificates', Number, 30)
    .action(async (name: string, flags: IssuerFlags, command: Command) => {
      await perform(command, async () => {
        const { addIssuer: add } = await import('../enrolment/issuers.ts');
        const { keys, out, ...facts } = flags;
        const result = await add(resolve(keys), { name, ...facts }, resolve(out));
        const text = `issuer ${name} may admit ${flags.site === undefined ? 'anywhere' : `to ${flags.site}`}; its key is ${result.file}`;
        return { result, text };
      });
    });
}

function addCourier(fleet: Command): void {
  const courier = fleet
    .command('courier')
    .description('who belongs and who no longer, carried to where no network reaches');
  addVerb(courier, 'export', {
    summary: 'write all that this node knows of its fleet’s members into a file',
    examples: ['fleet courier export -o /media/usb/fleet'],
  })
    .requiredOption('-o, --output <file>', 'appears when all of it is written; nothing in it is secret')
    .action(async ({ output }: { output: string }, command: Command) => {
      await perform(command, async (session) => {
        const operations = await session.operations();
        const file = resolve(output);
        const result = await whole(file, (write) => operations.courierExport({}, { ...session.options, write }));
        return { result: { ...result, output: file }, text: `${file}  ${result.statements} statements` };
      });
    });
  addVerb(courier, 'import', {
    summary: 'take what is news from such a file; it proves itself, whoever carried it',
    examples: ['fleet courier import /media/usb/fleet'],
  })
    .argument('<file>', 'of `fleet courier export`')
    .action(async (given: string, _flags: unknown, command: Command) => {
      await perform(command, async (session) => {
        const result = await (await session.operations()).courierImport({ file: resolve(given) }, session.options);
        const { metadata, news, refused } = result;
        const told = `${news} statements were news${refused > 0 ? `, ${refused} do not count here` : ''}`;
        return { result, text: `${told}; the signed metadata is ${metadata ? 'newer than ours was' : 'known'}` };
      });
    });
}

interface IssuerFlags {
  readonly keys: string;
  readonly out: string;
  readonly site?: string;
  readonly roles: string[];
  readonly days: number;
}

function describe(member: MemberLine): string {
  const { name, peerId, site, roles, address, state, connected, self, notAfter } = member;
  const here = self ? 'this node' : connected ? 'connected' : 'not connected';
  const standing = state === 'member' ? `${here}, until ${notAfter.slice(0, 10)}` : state;
  return `${name.padEnd(12)} ${peerId}  ${site}  ${[...roles].join(',') || '-'}  ${address}  ${standing}`;
}
