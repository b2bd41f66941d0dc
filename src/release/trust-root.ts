import { Metadata, MetadataKind, type Root } from '@tufjs/models';
import { z } from 'zod';
import { DOCUMENT_BYTES } from './document.ts';
import { checkTicketKey } from './ticket.ts';

/** A document is not what the fleet signed, or not what this version understands. Never the fault of a clock. */
export class Unauthentic extends Error {
  readonly code = 'UNAUTHENTIC';
  /** Name of the document. */
  readonly document: string;

  constructor(document: string, message: string, options?: ErrorOptions) {
    super(`${document}: ${message}`, options);
    this.name = 'Unauthentic';
    this.document = document;
  }
}

/** What a root says of the fleet besides its keys; signed with it. */
export interface FleetFacts {
  readonly fleet: string;
  /** 16 bytes in hex: what its membership is bound to. Fleets of before there was any have none. */
  readonly fleetId?: string;
  /** Public key of the tickets, a signify file. */
  readonly ticketKey: string;
}

const factsSchema = z.object({
  fleet: z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, 'is no name: 1 to 32 of a-z, 0-9 and inner dashes'),
  fleet_id: z
    .string()
    .regex(/^[0-9a-f]{32}$/, 'is no fleet id: 32 hexadecimal digits')
    .optional(),
  ticket_key: z.string().max(512),
});

/** Parses a root that is trusted because of where it comes from (a file of the operator). Throws `Unauthentic`. */
export function readRoot(bytes: Buffer, name = 'root.json'): Metadata<Root> {
  if (bytes.length > DOCUMENT_BYTES.root) throw new Unauthentic(name, `has more than ${DOCUMENT_BYTES.root} bytes`);
  try {
    const root = Metadata.fromJSON(MetadataKind.Root, JSON.parse(bytes.toString('utf8')));
    root.verifyDelegate('root', root);
    return root;
  } catch (cause) {
    throw new Unauthentic(name, (cause as Error).message, { cause });
  }
}

export function fleetOf(root: Buffer | Metadata<Root>): FleetFacts {
  const { signed } = Buffer.isBuffer(root) ? readRoot(root) : root;
  const facts = factsSchema.safeParse(signed.unrecognizedFields['bootmesh']);
  if (!facts.success) throw new Unauthentic('root.json', `names no fleet (${facts.error.issues[0]?.message})`);
  if (!signed.consistentSnapshot) throw new Unauthentic('root.json', 'does not keep consistent snapshots');
  try {
    checkTicketKey(facts.data.ticket_key);
  } catch (cause) {
    throw new Unauthentic('root.json', (cause as Error).message, { cause });
  }
  const { fleet, fleet_id: fleetId, ticket_key: ticketKey } = facts.data;
  return { fleet, ticketKey, ...(fleetId !== undefined && { fleetId }) };
}
