import type { HaveMap } from '../../src/schedule/have-map.ts';

/** What nodes say to each other: src/exchange/message.ts without the wire, and with chunks instead of request numbers. */
export type Message =
  | {
      readonly kind: 'subscribe';
      /**
       * A neighbour's is the one that all its neighbours read, as they all hear the same at the same time. A stranger
       * sends bytes.
       */
      readonly have: HaveMap | Uint8Array;
      readonly wants: boolean;
      readonly outside: boolean;
      readonly claimed: readonly number[];
    }
  | {
      readonly kind: 'have';
      readonly added: readonly number[];
      readonly claimed: readonly number[];
      readonly unclaimed: readonly number[];
      readonly wants: boolean;
      readonly outside: boolean;
    }
  | { readonly kind: 'request' | 'cancel'; readonly indexes: readonly number[] }
  | { readonly kind: 'ended'; readonly indexes: readonly number[]; readonly reason: 'missing' | 'busy' | 'cancelled' };
