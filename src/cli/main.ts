import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { keepThreadPoolAwake } from '../host/thread-pool.ts';
import { addFleet } from './fleet.ts';
import { addGet } from './get.ts';
import { addId } from './id.ts';
import { addImage } from './image.ts';
import { addJoin } from './join.ts';
import { addLab } from './lab.ts';
import { addLs } from './ls.ts';
import { addOverlay } from './overlay.ts';
import { addPeers, addPing } from './peers.ts';
import { addGc, addPin, addUnpin } from './pin.ts';
import { addPublish } from './publish.ts';
import { exitCodes } from './session.ts';
import { addStatus } from './status.ts';
import { addUp } from './up.ts';
import { addVerify } from './verify.ts';

keepThreadPoolAwake();

const EXIT_CODES = `
Exit codes:
  0  done
  1  failed
  2  the command line or the configuration is wrong
  3  not found: no such file, artifact, channel, pin
  4  refused: a signature or a hash is wrong, damage was found, or permission is missing
  5  unreachable: no agent and no store here, or nobody has the content
  6  busy: another process has the data directory, the address or the lab
  130, 143  interrupted (Ctrl-C, SIGTERM); a second one does not wait for the clean-up

Verbs talk to the agent that runs on the data directory, and do the work themselves when there is none.`;

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

const program = new Command('bootmesh')
  .description('A peer-to-peer boot and content mesh: every machine that has booted can boot the next one.')
  .version(version)
  .exitOverride()
  // `lab exec NODE PROGRAM --version` asks the program.
  .enablePositionalOptions()
  .showHelpAfterError('(--help says more)')
  .addHelpText('after', EXIT_CODES);

for (const add of [
  addUp,
  addId,
  addPublish,
  addGet,
  addStatus,
  addPeers,
  addPing,
  addLs,
  addPin,
  addUnpin,
  addGc,
  addVerify,
]) {
  add(program);
}
addImage(program);
addFleet(program);
addJoin(program);
addLab(program);
addOverlay(program);

// A reader that has seen enough (`bootmesh ls | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit();
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : exitCodes.USAGE;
  if (error.exitCode !== 0 && process.argv.includes('--json')) {
    const { message } = error;
    process.stdout.write(`${JSON.stringify({ error: { code: 'USAGE', message, exit: exitCodes.USAGE } })}\n`);
  }
}
