import { resolve } from 'node:path';
import type { Command } from 'commander';
import { OperationError } from '../admin/operations.ts';
import type { WireGuardNetwork, WireGuardPeer } from '../overlay/network.ts';
import { addVerb, perform, usageError } from './session.ts';

export function addOverlay(program: Command): void {
  const overlay = program.command('overlay').description('WireGuard networks between sites');
  addVerb(overlay, 'check', {
    summary: 'read a wg-quick configuration, and show the network as it would be imported; changes nothing',
    examples: ['overlay check /etc/wireguard/wg0.conf', 'overlay check wg0.conf --json'],
  })
    .argument('<file>', 'wg-quick configuration')
    .action(async (path: string, _flags: unknown, command: Command) => {
      await perform(command, async ({ signal }) => {
        const { readNetwork, WgQuickInvalid } = await import('../overlay/wg-quick.ts');
        const file = resolve(path);
        const network = await readNetwork(file, { signal }).catch((error: NodeJS.ErrnoException) => {
          if (error instanceof WgQuickInvalid) throw usageError(error.message);
          if (error.code === 'EACCES') throw new OperationError('REFUSED', `${file} may not be read: run this as root`);
          if (error.code !== 'ENOENT') throw error;
          throw new OperationError('NOT_FOUND', `${file} does not exist: name a wg-quick configuration`);
        });
        return { result: { file, ...network }, text: describe(network) };
      });
    });
}

function describe({ interface: own, peers }: WireGuardNetwork): string {
  const mtu = own.mtu === undefined ? '' : `, MTU ${own.mtu}`;
  return [
    `interface ${own.publicKey}  ${own.addresses.join(', ')}  port ${own.listenPort ?? 'any'}${mtu}`,
    ...peers.map(describePeer),
  ].join('\n');
}

function describePeer(peer: WireGuardPeer): string {
  const keepalive = peer.persistentKeepalive === undefined ? '' : `  keepalive ${peer.persistentKeepalive} s`;
  const preshared = peer.presharedKey === undefined ? '' : '  preshared key';
  const endpoint = peer.endpoint ?? 'no endpoint';
  return `peer      ${peer.publicKey}  ${peer.allowedIps.join(', ')}  ${endpoint}${keepalive}${preshared}`;
}
