import { isIPv6 } from 'node:net';
import { parseCidr, shortest } from './cidr.ts';

export type Kind = 'Interface' | 'Peer';

export interface Field {
  readonly count: 'one' | 'optional' | 'list';
  /** What it takes, for messages. */
  readonly takes: string;
  /** The canonical spelling, of letters and signs that mean nothing to a shell; undefined for a bad value. */
  readonly read: (value: string) => string | undefined;
}

const key = (count: 'one' | 'optional'): Field => ({
  count,
  takes: '32 bytes in base64, as `wg genkey` and `wg pubkey` print',
  read: (value) => (/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/.test(value) ? value : undefined),
});

const number = (least: number, none: string): Field => ({
  count: 'optional',
  takes: `a number from ${least} to 65535, or ${none} for none`,
  read: (value) => {
    if (value === none || value === '0') return '0';
    return /^[1-9]\d{0,4}$/.test(value) && Number(value) >= least && Number(value) <= 65_535 ? value : undefined;
  },
});

/**
 * What is imported, in an order that wireguard-tools reads right: it takes the first line that *contains* a field's
 * name, so those whose values can contain one (base64) come last.
 */
export const fields: Readonly<Record<Kind, Readonly<Record<string, Field>>>> = {
  Interface: {
    Address: { count: 'list', takes: 'addresses such as 10.0.0.2/24', read: (value) => parseCidr(value)?.address },
    ListenPort: number(1, '0'),
    // Below 1280 no IPv6 passes (RFC 8200 section 5).
    MTU: number(1280, '0'),
    PrivateKey: key('one'),
  },
  Peer: {
    AllowedIPs: { count: 'list', takes: 'blocks such as 10.0.0.0/24', read: (value) => parseCidr(value)?.block },
    Endpoint: { count: 'optional', takes: 'HOST:PORT or [IPV6]:PORT', read: readEndpoint },
    PersistentKeepalive: number(1, 'off'),
    PublicKey: key('one'),
    PresharedKey: key('optional'),
  },
};

const RUNS = 'runs a command as root and is never imported: remove the line, and do its work outside of bootmesh';
const ASIDE = 'is not imported: remove the line, and set it on the machine itself';

/** Fields that wg-quick knows and bootmesh refuses: why, and what to do. By lower-case name. */
export const refused: Readonly<Record<string, string>> = {
  ...Object.fromEntries(['preup', 'postup', 'predown', 'postdown'].map((name) => [name, RUNS])),
  ...Object.fromEntries(['dns', 'table', 'fwmark'].map((name) => [name, ASIDE])),
  saveconfig: 'lets wg-quick overwrite the file, and is never imported: remove the line',
};

function readEndpoint(value: string): string | undefined {
  const [, six, name = '', port = ''] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]{1,253})):([1-9]\d{0,4})$/i.exec(value) ?? [];
  if (Number(port) > 65_535) return undefined;
  if (six !== undefined) return isIPv6(six) ? `[${shortest(six)}]:${port}` : undefined;
  // A host that ends in a number is an IPv4 address or a slip of one.
  const good = /(?:^|\.)\d+$/.test(name) ? parseCidr(name) : name.split('.').every((label) => LABEL.test(label));
  return good ? `${name.toLowerCase()}:${port}` : undefined;
}

/** RFC 1123 section 2.1. */
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;
