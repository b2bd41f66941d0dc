import type { Socket } from 'node:net';
import { createSecureContext, type SecureContext, TLSSocket, type TLSSocketOptions } from 'node:tls';
import { type IssuedTicket, TICKET_ID_BYTES, type Ticket } from './ticket.ts';

/**
 * TLS 1.3 with the ticket as external pre-shared key and an ephemeral key exchange (psk_dhe_ke): each end proves that
 * it holds the ticket, which only the two peers of the libp2p connection know, so that no certificate is needed. The
 * pre-shared keys that Node offers are those of SHA-256 suites, hence this one.
 */
const TLS_OPTIONS = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256',
} as const;

let context: SecureContext | undefined;

/** What `tls.connect` needs to prove the ticket, and to take nothing else for a proof. */
export function diallerOptions({ id, secret }: Pick<Ticket, 'id' | 'secret'>) {
  return {
    ...TLS_OPTIONS,
    rejectUnauthorized: true,
    pskCallback: () => ({ psk: secret, identity: Buffer.from(id).toString('hex') }),
    // Reached only when the other end shows a certificate instead of the ticket.
    checkServerIdentity: () => new Error('the lane was not opened with its ticket'),
  };
}

/**
 * The listener's side. `take` is asked once for the ticket that the dialler names. Resolves with the connection that
 * proved it, which is `socket` wrapped. Rejects when there is no such proof; the caller destroys `socket`.
 */
export function acceptTls(
  socket: Socket,
  take: (id: Uint8Array) => IssuedTicket | undefined,
): Promise<{ readonly secured: TLSSocket; readonly ticket: IssuedTicket }> {
  context ??= createSecureContext(TLS_OPTIONS);
  const { promise, resolve, reject } = Promise.withResolvers<{ secured: TLSSocket; ticket: IssuedTicket }>();
  let ticket: IssuedTicket | undefined;
  const options: TLSSocketOptions = {
    isServer: true,
    secureContext: context,
    pskCallback: (_: unknown, identity: string) => {
      const id = Buffer.from(identity.slice(0, 2 * TICKET_ID_BYTES), 'hex');
      ticket ??= take(id);
      return ticket?.secret ?? null;
    },
  } as TLSSocketOptions;
  const secured = new TLSSocket(socket, options);
  secured.on('error', reject);
  // How a TLS socket without a server says that a record was changed on the way. Should the name change, the exchange
  // finds two seconds later that nothing comes any more.
  secured.on('_tlsError', (error: Error) => secured.destroy(error));
  secured.once('close', () => reject(new Error('closed before the ticket was proved')));
  secured.once('secure', () => {
    // A resumed session would prove an older ticket. None is ever offered by us; nor is one taken.
    if (ticket === undefined || secured.getProtocol() !== 'TLSv1.3') return reject(new Error('no ticket'));
    resolve({ secured, ticket });
  });
  return promise;
}
