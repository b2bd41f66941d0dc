import type { Command } from 'commander';
import { addVerb, perform } from './session.ts';

export function addId(program: Command): void {
  addVerb(program, 'id', {
    summary: 'print this node’s peer id, by which the fleet description names it; made on first use',
    examples: ['id --data /var/lib/bootmesh', 'id --json'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const { data } = await session.config();
      const [{ mkdir }, { loadIdentity }] = await Promise.all([
        import('node:fs/promises'),
        import('../fleet/identity.ts'),
      ]);
      await mkdir(data, { recursive: true, mode: 0o700 });
      const { peerId } = await loadIdentity(data);
      return { result: { peerId, data }, text: peerId };
    });
  });
}
