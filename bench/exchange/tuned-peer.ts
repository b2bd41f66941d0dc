/** `peer.ts` in a process whose heap is settled as the agent's is. */
import { tuneHeap } from '../../src/swarm/heap.ts';

tuneHeap();
await import('./peer.ts');
