/** What nodes say to each other: src/exchange/message.ts without the wire, and with chunks instead of request numbers. */
export type Message =
  | {
      readonly kind: 'subscribe';
      /** One bit per chunk. */
      readonly have: Uint8Array;
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
