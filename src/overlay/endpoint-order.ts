import { parseCidr } from './cidr.ts';

/** Networks that no packet from elsewhere reaches (RFC 1918, 4193, 6598). */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'];

/**
 * Endpoints of a peer, the likeliest to answer first; pure. Those on a network that we are on ourselves, then those that
 * anybody can send to, then the rest: private addresses of somewhere else. Otherwise in the peer's own order.
 * @param networks own addresses with prefix lengths
 */
export function inOrderOfReach(endpoints: readonly string[], networks: readonly string[]): string[] {
  return endpoints
    .map((endpoint, index) => ({ endpoint, index, rank: rankOf(endpoint, networks) }))
    .toSorted((a, b) => a.rank - b.rank || a.index - b.index)
    .map(({ endpoint }) => endpoint);
}

/** Those of them that are no private addresses of somewhere else, in the same order. */
export function openToAll(endpoints: readonly string[], networks: readonly string[]): string[] {
  return inOrderOfReach(endpoints, networks).filter((endpoint) => rankOf(endpoint, networks) < 2);
}

/** `192.0.2.7:51820` or `[2001:db8::7]:51820`: no name, which somebody would have to be asked about. */
export function isEndpoint(text: string): boolean {
  const [, six, four, port] = /^(?:\[([0-9a-f:.]{2,45})\]|([0-9.]{7,15})):([1-9]\d{0,4})$/i.exec(text) ?? [];
  return Number(port) < 65_536 && parseCidr(six ?? four ?? '')?.bits === (six === undefined ? 32 : 128);
}

function rankOf(endpoint: string, networks: readonly string[]): number {
  const host = parseCidr(endpoint.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''));
  if (host === undefined) return 3;
  const within = (block: string) => {
    const network = parseCidr(block);
    return network?.bits === host.bits && network.first <= host.first && host.first <= network.last;
  };
  if (networks.some(within)) return 0;
  return PRIVATE.some(within) ? 2 : 1;
}
