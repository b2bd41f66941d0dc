import { parseCidr } from './cidr.ts';

/** Networks that no packet from elsewhere reaches (RFC 1918, 4193, 6598). */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'];

/**
 * Endpoints of a peer, the likeliest to answer first; pure. Those on a network that we are on ourselves, then those that
 * anybody can send to, then the rest: private addresses of somewhere else. Otherwise in the peer's own order.
 * @param networks own addresses with prefix lengths
 */
export function inOrderOfReach(endpoints: readonly string[], networks: readonly string[]): string[] {
  const rank = (endpoint: string): number => {
    const host = parseCidr(endpoint.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''));
    if (host === undefined) return 3;
    const within = (block: string) => {
      const network = parseCidr(block);
      return network?.bits === host.bits && network.first <= host.first && host.first <= network.last;
    };
    if (networks.some(within)) return 0;
    return PRIVATE.some(within) ? 2 : 1;
  };
  return endpoints
    .map((endpoint, index) => ({ endpoint, index, rank: rank(endpoint) }))
    .toSorted((a, b) => a.rank - b.rank || a.index - b.index)
    .map(({ endpoint }) => endpoint);
}
