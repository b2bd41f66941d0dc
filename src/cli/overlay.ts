import { resolve } from 'node:path';
import type { Command } from 'commander';
import { OperationError } from '../admin/operations.ts';
import type { OverlayLine, OverlayPeerLine } from '../admin/results.ts';
import { formatBytes } from '../observe/progress.ts';
import type { WireGuardNetwork, WireGuardPeer } from '../overlay/network.ts';
import { addVerb, perform, usageError } from './session.ts';

export function addOverlay(program: Command): void {
  const overlay = program.command('overlay').description('WireGuard networks between sites');
  addOverlayStatus(overlay);
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

function addOverlayStatus(overlay: Command): void {
  addVerb(overlay, 'status', {
    summary: 'this node’s WireGuard interface: handshakes, bytes and paths, peer by peer',
    examples: ['overlay status', 'overlay status --json'],
  }).action(async (_flags: unknown, command: Command) => {
    await perform(command, async (session) => {
      const result = await (await session.operations()).overlay({}, session.options);
      return { result, text: describeOverlay(result) };
    });
  });
}

function describeOverlay({ state, why, peers = [], ...own }: OverlayLine): string {
  if (state === 'off')
    return 'no overlay here: set overlay.mode in the agent’s configuration (or BOOTMESH_OVERLAY_MODE=auto)';
  if (state === 'missing') return `no overlay: ${why ?? 'see the agent’s log'}`;
  const first = `${own.interface} (${own.driver})  ${own.address}  port ${own.port}`;
  return [first, ...peers.map(describeMember)].join('\n');
}

function describeMember({ name = '?', site = '?', path, endpoint, handshakeAt, ...peer }: OverlayPeerLine): string {
  const traffic = `${formatBytes(peer.bytesIn)} in, ${formatBytes(peer.bytesOut)} out`;
  const seen = handshakeAt === undefined ? 'no handshake yet' : `handshake ${handshakeAt.slice(0, 19)}Z`;
  return `${name.padEnd(12)} ${site}  ${path}  ${peer.allowedIps.join(', ')}  ${endpoint ?? 'no endpoint'}  ${seen}  ${traffic}`;
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
