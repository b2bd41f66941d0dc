import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIPv6 } from 'node:net';
import { rankNodes } from '../schedule/answer.ts';
import { interfaceAddresses, isLinkLocal, type SegmentInterface } from './interface.ts';
import type { Neighbour } from './neighbours.ts';
import type { BootRelease } from './release.ts';
import { bootScript, type ScriptNeighbour } from './script.ts';

/** A route as a gateway takes it; satisfied structurally. */
export interface BootRoute {
  readonly path: string;
  handle(
    request: IncomingMessage,
    response: ServerResponse,
    context: { readonly params: Readonly<Record<string, string>>; readonly client: string },
  ): Promise<void>;
}

export interface ScriptRouteDeps {
  /** The channel's release when this node holds it completely. */
  readonly held: (channel: string) => BootRelease | undefined;
  readonly self: { readonly peerId: string; readonly gatewayPort: number };
  readonly interface: () => SegmentInterface | undefined;
  readonly neighbours: () => readonly Neighbour[];
  readonly onScript: (mac: string, facts: Readonly<Record<string, unknown>>) => void;
}

/** Given to a machine that this node has nothing for (any more): it asks the segment again instead of hanging. */
const NOTHING_HELD = '#!ipxe\necho bootmesh: no release here, resetting\nsleep 10 ||\nreboot\n';
/** Fetched without a hardware address (by hand, or by an embedded script): comes back with one. */
// biome-ignore lint/suspicious/noTemplateCurlyInString: iPXE expands it.
const WITHOUT_MAC = '#!ipxe\nisset ${ip} || dhcp ||\nchain --replace ?mac=${mac} || reboot\n';

/** `/boot/<channel>.ipxe?mac=…`: the script that boots one machine from this segment's nodes. */
export function scriptRoute(deps: ScriptRouteDeps): BootRoute {
  return {
    path: '/boot/:script',
    handle: async (request, response, { params, client }) => {
      const channel = /^([a-z0-9][a-z0-9._-]{0,62})\.ipxe$/i.exec(params['script'] ?? '')?.[1];
      if (channel === undefined) return send(response, 404, 'no script is called that\n');
      const asked = new URL(request.url ?? '/', 'http://node').searchParams.get('mac') ?? '';
      const mac = asked.toLowerCase().replaceAll('-', ':');
      if (asked === '') return send(response, 200, WITHOUT_MAC);
      if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) return send(response, 400, 'mac is no hardware address\n');
      const release = deps.held(channel);
      const neighbours = release === undefined ? [] : scriptNeighbours(deps, release, { mac, client });
      if (release === undefined || neighbours.length === 0) {
        deps.onScript(mac, { client, channel, refused: 'no release held' });
        return send(response, 200, NOTHING_HELD);
      }
      const names = neighbours.map(({ name, address }) => name ?? address);
      deps.onScript(mac, { client, channel, version: release.version, neighbours: names });
      return send(response, 200, bootScript({ release, neighbours, mac }));
    },
  };
}

/** This node and the live ones that hold exactly this release, in the client's own order, so that load spreads. */
function scriptNeighbours(
  { self, neighbours, interface: face }: ScriptRouteDeps,
  release: BootRelease,
  { mac, client }: { readonly mac: string; readonly client: string },
): (ScriptNeighbour & { readonly name?: string })[] {
  const own = face();
  const holding = neighbours().filter((one) => one.releases.some(({ digest }) => digest === release.digest));
  const nodes = new Map(
    holding.map(({ peerId, name, addresses, gatewayPort }) => [peerId, { name, addresses, gatewayPort }] as const),
  );
  if (own !== undefined) {
    nodes.set(self.peerId, { name: 'self', addresses: interfaceAddresses(own), gatewayPort: self.gatewayPort });
  }
  return rankNodes(mac, nodes.keys()).flatMap((peerId) => {
    const node = nodes.get(peerId);
    const address = node?.addresses.find((each) => isIPv6(each) === isIPv6(client) && !isLinkLocal(each));
    return node === undefined || address === undefined || node.gatewayPort === 0 ? [] : [{ ...node, address }];
  });
}

function send(response: ServerResponse, status: number, text: string): void {
  const bytes = Buffer.from(text);
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'content-length': bytes.length });
  response.end(bytes);
}
