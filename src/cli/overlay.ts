import { mkdir, open, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { OperationError } from '../admin/operations.ts';
import type { DeviceResult, OverlayLine, OverlayPeerLine } from '../admin/results.ts';
import { formatBytes } from '../observe/progress.ts';
import type { WireGuardNetwork, WireGuardPeer } from '../overlay/network.ts';
import { addVerb, perform, usageError } from './session.ts';

export function addOverlay(program: Command): void {
  const overlay = program.command('overlay').description('WireGuard networks between sites');
  addOverlayStatus(overlay);
  addExport(overlay);
  addImport(overlay);
  addVerb(overlay, 'check', {
    summary: 'read a wg-quick configuration, and show the network as it would be imported; changes nothing',
    examples: ['overlay check /etc/wireguard/wg0.conf', 'overlay check wg0.conf --json'],
  })
    .argument('<file>', 'wg-quick configuration')
    .action(async (path: string, _flags: unknown, command: Command) => {
      await perform(command, async ({ signal }) => {
        const network = await read(path, signal);
        return { result: { file: resolve(path), ...network }, text: describe(network) };
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

function addImport(overlay: Command): void {
  addVerb(overlay, 'import', {
    summary:
      'use an existing WireGuard network between sites, in place of the fleet’s own overlay, from the next start on',
    examples: ['overlay import /etc/wireguard/wg0.conf', 'overlay import --forget'],
  })
    .argument('[file]', 'wg-quick configuration of this machine')
    .option('--forget', 'no longer')
    .action(async (path: string | undefined, { forget = false }: { forget?: boolean }, command: Command) => {
      await perform(command, async (session) => {
        const { forgetNetwork, importNetwork, NetworkTooWide } = await import('../overlay/imported-network.ts');
        const config = await session.config();
        if (forget === (path !== undefined)) throw usageError('name a configuration, or say --forget');
        if (path === undefined) {
          await forgetNetwork(config.data);
          return { result: { network: null }, text: 'no network is imported any more, from the agent’s next start on' };
        }
        const network = await read(path, session.signal);
        await mkdir(config.data, { recursive: true, mode: 0o700 });
        const kept = await importNetwork(config.data, network).catch((error: unknown) => {
          throw error instanceof NetworkTooWide ? usageError(`${path}: ${error.message}`) : error;
        });
        const off = config.overlay.mode === 'off' ? '; set overlay.mode to auto in its configuration' : '';
        const advice = `used from the agent’s next start on${off}. Take the interface down where something else has it up`;
        return { result: { file: kept, ...network }, text: `${describe(network)}\n${advice}: wg-quick down` };
      });
    });
}

/** Rejects with `OperationError`. */
async function read(path: string, signal: AbortSignal): Promise<WireGuardNetwork> {
  const { readNetwork, WgQuickInvalid } = await import('../overlay/wg-quick.ts');
  const file = resolve(path);
  return await readNetwork(file, { signal }).catch((error: NodeJS.ErrnoException) => {
    if (error instanceof WgQuickInvalid) throw usageError(error.message);
    if (error.code === 'EACCES') throw new OperationError('REFUSED', `${file} may not be read: run this as root`);
    if (error.code !== 'ENOENT') throw error;
    throw new OperationError('NOT_FOUND', `${file} does not exist: name a wg-quick configuration`);
  });
}

interface ExportFlags {
  readonly output: string;
  readonly site?: string;
  readonly days?: number;
  readonly endpoint?: string;
}

function addExport(overlay: Command): void {
  addVerb(overlay, 'export', {
    summary: 'admit a laptop or a router without an agent, and write its configuration for wg-quick',
    examples: ['overlay export laptop -o laptop.conf', 'overlay export till --site shop --days 30 -o till.conf'],
  })
    .argument('<name>', 'what it is called; `fleet revoke` takes it out again')
    .requiredOption('-o, --output <file>', 'with its private key in it, and so mode 0600; never replaced')
    .option('--site <site>', 'where it belongs (default: this node’s site)')
    .option('--endpoint <address>', 'where it reaches its gateway, as 198.51.100.7:51820 (default: what that says)')
    .option(
      '--days <days>',
      'how long it belongs, since nobody renews it (default: 365, or what its issuer may)',
      Number,
    )
    .action(async (name: string, { output, ...flags }: ExportFlags, command: Command) => {
      await perform(command, async (session) => {
        const operations = await session.operations();
        const file = resolve(output);
        const result = await secretly(file, async () => {
          const { site, days, endpoint } = flags;
          const input = { name, ...(site && { site }), ...(days && { days }), ...(endpoint && { endpoint }) };
          return await operations.overlayExport(input, session.options);
        });
        const { configuration: _, ...facts } = result;
        const text = `${file}: ${result.name} is ${result.address} until ${result.notAfter}`;
        return { result: { ...facts, output: file }, text };
      });
    });
}

/** The file is there before anything is asked for that could not be asked for twice, and gone when that fails. */
async function secretly(file: string, make: () => Promise<DeviceResult>): Promise<DeviceResult> {
  await using handle = await open(file, 'wx', 0o600).catch((cause: NodeJS.ErrnoException) => {
    throw new OperationError('FAILED', `${file} cannot be written: ${cause.message}`, { cause });
  });
  try {
    const result = await make();
    await handle.writeFile(result.configuration);
    await handle.sync();
    return result;
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  }
}

function describeOverlay({ state, why, peers = [], ...own }: OverlayLine): string {
  if (state === 'off')
    return 'no overlay here: set overlay.mode in the agent’s configuration (or BOOTMESH_OVERLAY_MODE=auto)';
  if (state === 'missing') return `no overlay: ${why ?? 'see the agent’s log'}`;
  const first = `${own.interface} (${own.driver})  ${own.address}  port ${own.port}`;
  return [first, ...peers.map(describeMember)].join('\n');
}

function describeMember({
  name = '?',
  site = '?',
  path,
  endpoint,
  handshakeAt,
  carries = [],
  ...peer
}: OverlayPeerLine) {
  const traffic = `${formatBytes(peer.bytesIn)} in, ${formatBytes(peer.bytesOut)} out`;
  const seen = handshakeAt === undefined ? 'no handshake yet' : `handshake ${handshakeAt.slice(0, 19)}Z`;
  const way = carries.length === 0 ? path : `${path}, carries ${carries.join(', ')}`;
  return `${name.padEnd(12)} ${site}  ${way}  ${peer.allowedIps.join(', ')}  ${endpoint ?? 'no endpoint'}  ${seen}  ${traffic}`;
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
