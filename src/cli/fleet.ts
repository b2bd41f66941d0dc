import { resolve } from 'node:path';
import type { Command } from 'commander';
import { addVerb, perform } from './session.ts';

const list = (text: string) => text.split(',').map((item) => item.trim());

export function addFleet(program: Command): void {
  const fleet = program.command('fleet').description('the keys of a fleet');
  addVerb(fleet, 'init', {
    summary: 'make the keys of a new fleet; nodes trust its root.json, machines its ticket.pub',
    examples: ['fleet init my-fleet --keys /etc/bootmesh/keys', 'fleet init lab --keys ./keys --channels testing'],
  })
    .argument('<name>', 'the fleet’s name, as in its description')
    .requiredOption('--keys <directory>', 'is made; keys that are there are never touched')
    .option('--channels <names>', 'separated by commas', list, ['production', 'testing', 'development'])
    .action(async (name: string, flags: { keys: string; channels: string[] }, command: Command) => {
      await perform(command, async () => {
        const { createFleetKeys } = await import('../release/fleet-keys.ts');
        const directory = resolve(flags.keys);
        await createFleetKeys(directory, { fleet: name, channels: flags.channels });
        const text = `keys of fleet ${name} in ${directory}: give root.json to every node, keep the rest safe`;
        return { result: { fleet: name, keys: directory, channels: flags.channels }, text };
      });
    });
}
