/** Loaded into every process of `npm test` before its tests. */
import { keepThreadPoolAwake } from '../src/host/thread-pool.ts';

keepThreadPoolAwake();
