import { once } from 'node:events';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { OperationError } from '../admin/operations.ts';
import type { LabEvent } from '../lab/lab.ts';
import type { LabStatus } from '../lab/lab-control.ts';
import type { LabVerb, PowerCycle } from '../lab/lab-server.ts';
import { addVerb, type Outcome, perform, type Session } from './session.ts';

interface Where {
  readonly fleetFile?: string;
  readonly directory?: string;
}

interface UpFlags extends Where {
  readonly detach?: boolean;
  readonly keepLogs?: boolean;
  readonly boot?: string[];
}

/** This program, for the agents: the launcher or the program itself, whichever was started. */
const self = [process.execPath, resolve(process.argv[1] ?? '')];

export function addLab(program: Command): void {
  const lab = program
    .command('lab')
    .description('bring a described fleet up on this machine, to try it')
    .enablePositionalOptions();

  addVerb(lab, 'up <file>', {
    summary: 'make the fleet of a description: namespaces, links, agents; until Ctrl-C',
    examples: ['lab up peers/demo.yaml', 'lab up peers/demo.yaml --boot bare', 'lab up peers/two-sites.yaml --detach'],
  })
    .option('--directory <directory>', 'its state (default: /var/lib/bootmesh-lab/FLEET)')
    .option('--detach', 'return when it is up, and leave it up')
    .option('--boot <machines...>', 'switch these machines on when the nodes are up, and show their consoles')
    .option('--keep-logs', 'leave stores and logs in its directory when it goes down')
    .action(async (file: string, flags: UpFlags, command: Command) => {
      await perform(command, (session) => (flags.detach ? detach(file, flags, session) : hold(file, flags, session)));
    });

  where(addVerb(lab, 'status', { summary: 'what is up', examples: ['lab status', 'lab status --json'] })).action(
    async (flags: Where, command: Command) => {
      await perform(command, async () => {
        const { labStatus } = await import('../lab/lab-control.ts');
        const status = await labStatus(await labOf(flags));
        return { result: status, text: describe(status) };
      });
    },
  );

  where(
    addVerb(lab, 'exec', {
      summary: 'run a program where a node is; bootmesh there speaks to the node’s own agent',
      examples: ['lab exec edge-1 -- ip addr', 'lab exec laptop -- bootmesh fleet invite --site office'],
    }),
  )
    .argument('<node>')
    .argument('<command...>')
    .passThroughOptions()
    .action(async (node: string, argv: string[], flags: Where, command: Command) => {
      await perform(command, async () => {
        const { labExec } = await import('../lab/lab-control.ts');
        // `--` may stand before the program, and is no part of it.
        const program = argv[0] === '--' ? argv.slice(1) : argv;
        const exitCode = await labExec(await labOf(flags), node, program);
        return { result: { exit: exitCode }, text: '', exitCode };
      });
    });

  addRequests(lab);

  where(addVerb(lab, 'down', { summary: 'take a lab down, in whatever state it is', examples: ['lab down'] }))
    .option('--keep-logs', 'leave stores and logs in its directory')
    .action(async (flags: Where & { keepLogs?: boolean }, command: Command) => {
      await perform(command, async () => {
        const { labDown } = await import('../lab/lab-down.ts');
        const report = await labDown(await labOf(flags), { keepLogs: flags.keepLogs ?? false });
        return { result: report, text: report.found ? `${report.directory} is down` : 'there was no lab' };
      });
    });
}

/** Verbs that the process that holds the lab up performs. */
function addRequests(lab: Command): void {
  where(
    addVerb(lab, 'partition', {
      summary: 'let no packet pass between two sites, or between one and all others; adds to earlier cuts',
      examples: ['lab partition plant office', 'lab partition plant'],
    }),
  )
    .argument('<site>')
    .argument('[other]', 'what a third site carries between the two still passes (default: all others)')
    .action(async (site: string, other: string | undefined, flags: Where, command: Command) => {
      const args = other === undefined ? [site] : [site, other];
      await request(command, flags, 'partition', args, (result) => describeCuts((result as Cuts).cuts));
    });

  where(
    addVerb(lab, 'heal', {
      summary: 'let all sites reach each other again',
      examples: ['lab heal', 'lab heal --json'],
    }),
  ).action(async (flags: Where, command: Command) => {
    await request(command, flags, 'heal', [], () => 'all sites reach each other');
  });

  where(
    addVerb(lab, 'power-cycle', {
      summary: 'kill all agents of a site at once, start them again, and wait until they are ready',
      examples: ['lab power-cycle plant', 'lab power-cycle plant --json'],
    }),
  )
    .argument('<site>')
    .action(async (site: string, flags: Where, command: Command) => {
      await request(command, flags, 'power-cycle', [site], (result) => {
        const { nodes, milliseconds } = result as PowerCycle;
        return `${site}: ${nodes.length} agents were killed, and all are ready again after ${(milliseconds / 1000).toFixed(1)} s`;
      });
    });

  where(
    addVerb(lab, 'start', {
      summary: 'start a node’s agent: one that was stopped, or one that has joined just now',
      examples: ['lab start office-3'],
    }),
  )
    .argument('<node>')
    .action(async (node: string, flags: Where, command: Command) => {
      await request(
        command,
        flags,
        'start',
        [node],
        (result) => `${node} is up, pid ${(result as { pid: number }).pid}`,
      );
    });

  where(addVerb(lab, 'stop', { summary: 'stop a node’s agent', examples: ['lab stop plant-1'] }))
    .argument('<node>')
    .action(async (node: string, flags: Where, command: Command) => {
      await request(command, flags, 'stop', [node], () => `${node} is stopped`);
    });
}

type Cuts = Pick<LabStatus, 'cuts'>;

async function request(
  command: Command,
  flags: Where,
  verb: LabVerb,
  args: string[],
  text: (result: object) => string,
): Promise<void> {
  await perform(command, async (session) => {
    const { labAsk } = await import('../lab/lab-control.ts');
    const onEvent = (event: object) => session.note(sentenceOf(event as LabEvent));
    const result = await labAsk(await labOf(flags), { verb, args }, { signal: session.signal, onEvent });
    return { result, text: text(result) };
  });
}

function where(command: Command): Command {
  return command
    .option('--fleet-file <file>', 'the description it was made of')
    .option('--directory <directory>', 'its state (default: the only one in /var/lib/bootmesh-lab)');
}

async function detach(file: string, flags: UpFlags, { signal }: Session): Promise<Outcome> {
  const { labUpDetached } = await import('../lab/lab-control.ts');
  const directory = await labOf({ ...flags, fleetFile: file });
  const rest = ['--directory', directory, ...(flags.keepLogs ? ['--keep-logs'] : [])];
  const status = await labUpDetached([...self, 'lab', 'up', resolve(file), ...rest], directory, { signal });
  return { result: status, text: describe(status) };
}

async function hold(file: string, flags: UpFlags, session: Session): Promise<Outcome> {
  const { signal } = session;
  const [{ labUp }, { labStatus }, { readDescription }, { trialFleet }] = await Promise.all([
    import('../lab/lab.ts'),
    import('../lab/lab-control.ts'),
    import('../fleet/description.ts'),
    import('../agent/trial-fleet.ts'),
  ]);
  const directory = await labOf({ ...flags, fleetFile: file });
  const fleet = await trialFleet(await readDescription(file), `${directory}.keys`);
  const options = {
    agentCommand: [...self, 'up'],
    directory,
    keepLogs: flags.keepLogs ?? false,
    agentConfig: fleet.agentConfig,
    onEvent: (event: LabEvent) => session.note(sentenceOf(event)),
  };
  const lab = session.use(await labUp(fleet.description, options, { signal }));
  const status = await labStatus(directory);
  process.stdout.write(session.json ? `${JSON.stringify(status)}\n` : `${describe(status)}\n`);
  for (const name of flags.boot ?? []) {
    await lab.startMachine(name, { onLine: ({ text }) => session.note(`${name} | ${text}`) }, { signal });
  }
  if (fleet.keys !== undefined) {
    session.note(`its origins publish with the keys in ${fleet.keys}; machines trust its ticket.pub`);
  }
  session.note('Ctrl-C takes it down');
  if (!signal.aborted) await once(signal, 'abort');
  return { result: { directory, state: 'down' }, text: '' };
}

/** The directory of the lab that is meant. */
async function labOf({ directory, fleetFile }: Where): Promise<string> {
  if (directory !== undefined) return resolve(directory);
  const { labDirectory } = await import('../lab/lab-state.ts');
  if (fleetFile !== undefined) {
    const { readDescription } = await import('../fleet/description.ts');
    return labDirectory((await readDescription(fleetFile)).fleet);
  }
  const { readdir } = await import('node:fs/promises');
  const root = labDirectory('.');
  const labs = (await readdir(root, { withFileTypes: true }).catch(() => [])).filter(
    (each) => each.isDirectory() && !each.name.endsWith('.keys'),
  );
  const [only] = labs;
  if (only !== undefined && labs.length === 1) return labDirectory(only.name);
  if (only === undefined) throw new OperationError('NOT_FOUND', `there is no lab in ${root}; \`bootmesh lab up FILE\``);
  const names = labs.map(({ name }) => name).join(', ');
  throw new OperationError('USAGE', `there are several labs (${names}): say which with --fleet-file or --directory`);
}

function describe(status: LabStatus): string {
  const pid = (each: { pid?: number }) => (each.pid === undefined ? 'off' : `pid ${each.pid}`);
  return [
    `lab ${status.fleet ?? ''} in ${status.directory}: ${status.state}`,
    ...status.nodes.map((node) => {
      const addresses = [node.addresses.ipv4, node.addresses.ipv6, node.overlay].filter(Boolean).join(' ');
      return `  ${node.name.padEnd(12)} ${node.site}/${node.segment}  ${addresses}  ${pid(node)}  ${node.log}`;
    }),
    ...status.machines.map((machine) => `  ${machine.name.padEnd(12)} ${machine.segment}  ${pid(machine)}`),
    ...(status.cuts.length > 0 ? [describeCuts(status.cuts)] : []),
  ].join('\n');
}

function describeCuts(cuts: Cuts['cuts']): string {
  const each = cuts.map(([site, other]) =>
    other === undefined ? `${site} reaches no other site` : `${site} and ${other} do not reach each other`,
  );
  return each.join('; ');
}

function sentenceOf(event: LabEvent): string {
  const { type, ...facts } = event;
  const said = Object.values(facts).map((fact) => (typeof fact === 'object' ? JSON.stringify(fact) : String(fact)));
  return `${type} ${said.join(' ')}`;
}
