import { once } from 'node:events';
import { flushCompileCache } from 'node:module';
import { type Command, Option } from 'commander';
import type { ConfigInput } from '../agent/config.ts';
import { addVerb, perform, usageError } from './session.ts';

interface UpFlags {
  readonly fleet?: string;
  readonly keys?: string;
  readonly node?: string;
  readonly channels?: string[];
  readonly swarmListen?: string[];
  readonly gatewayListen?: string[];
  readonly bootMode?: 'off' | 'auto' | 'server' | 'proxy';
  readonly bootInterface?: string;
  readonly bootPool?: string;
  readonly logLevel?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

const list = (text: string) => text.split(',').map((item) => item.trim());

export function addUp(program: Command): void {
  addVerb(program, 'up', {
    summary: 'run the agent in the foreground; without configuration, a fleet of one node',
    examples: [
      'up --data ./node',
      'up --config /etc/bootmesh/agent.yaml',
      'up --data ./node --boot-mode auto --boot-interface eth0 --boot-pool 192.0.2.100-192.0.2.199',
    ],
  })
    .option('--fleet <file>', 'fleet description')
    .option('--keys <directory>', 'the fleet’s own keys, on a node that publishes')
    .option('--node <name>', 'this node’s name in the fleet description')
    .option('--channels <names>', 'channels to follow, separated by commas', list)
    .option('--swarm-listen <multiaddrs>', 'where peers reach it, separated by commas', list)
    .option('--gateway-listen <addresses>', 'where HTTP clients reach it, such as 0.0.0.0:8080,[::]:8080', list)
    .addOption(
      new Option('--boot-mode <mode>', 'boot bare machines of the segment').choices(['off', 'auto', 'server', 'proxy']),
    )
    .option('--boot-interface <name>', 'the segment’s network interface')
    .option('--boot-pool <from-to>', 'addresses to give out as a DHCP server')
    .addOption(new Option('--log-level <level>').choices(['debug', 'info', 'warn', 'error', 'silent']))
    .action(async (flags: UpFlags, command: Command) => {
      await perform(command, async (session) => {
        const config = await session.config(settings(flags));
        const { Agent } = await import('../agent/agent.ts');
        const agent = session.use(await Agent.start(config));
        // For the next start, now: this one may end with a power cut.
        flushCompileCache();
        const status = await agent.operations.status({}, session.options);
        const lines = [`node ${status.peerId} is up on ${status.data}`, ...status.addresses.map((each) => `  ${each}`)];
        process.stdout.write(session.json ? `${JSON.stringify({ up: true, ...status })}\n` : `${lines.join('\n')}\n`);
        if (!session.signal.aborted) await once(session.signal, 'abort');
        return { result: { up: false, peerId: status.peerId }, text: '' };
      });
    });
}

function settings(flags: UpFlags): ConfigInput {
  const boot = {
    mode: flags.bootMode,
    interface: flags.bootInterface,
    ...(flags.bootPool !== undefined && { pool: pool(flags.bootPool) }),
  };
  return {
    fleet: flags.fleet,
    keys: flags.keys,
    node: flags.node,
    channels: flags.channels,
    swarm: { listen: flags.swarmListen },
    gateway: { listen: flags.gatewayListen },
    boot,
    log: { level: flags.logLevel },
  };
}

function pool(text: string): { from: string; to: string } {
  const [from, to, ...more] = text.split('-');
  if (from && to && more.length === 0) return { from, to };
  throw usageError(`--boot-pool ${text}: write the first and the last address, such as 192.0.2.100-192.0.2.199`);
}
