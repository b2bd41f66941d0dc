import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { Frame } from '../../src/lane/frame.ts';
import type { FrameSink, Lane, LaneKind } from '../../src/lane/lane.ts';
import { LanePort } from '../../src/lane/lane-port.ts';
import { LaneRest } from '../../src/lane/lane-rest.ts';
import { type LaneMessage, PairLanes } from '../../src/lane/pair-lanes.ts';
import { silentLog } from '../../src/observe/log.ts';

/** A frame that arrived, and the lane that it came by. */
export interface Arrived extends Frame {
  readonly by: LaneKind;
}

export interface EndPlan {
  /** Fast lanes that this end would use, as bits. */
  readonly allowed: number;
  /** False: nobody can dial it. @default true */
  readonly dialled?: boolean;
  /** Lanes that failed before. @default none */
  readonly rest?: LaneRest;
}

/** One end: real lanes on loopback, a control stream and a libp2p stream in memory. */
export class End {
  readonly lanes: PairLanes;
  readonly arrived: Arrived[] = [];
  /** Message bytes that came by the fast lane. */
  readonly heard: Uint8Array[] = [];
  /** Where this end's messages leave, once they may leave by the fast lane. */
  out: Socket | undefined;
  /** How often it was told that a fast lane is gone. */
  deaths = 0;
  readonly said: LaneMessage[] = [];
  /** Most bytes of a frame that this end takes; 0: it asked for nothing. */
  allow = 1024 * 1024;
  other!: End;
  #wake = Promise.withResolvers<void>();

  constructor(name: string, plan: EndPlan, port: LanePort | undefined, relay: Relay | undefined) {
    this.lanes = new PairLanes({
      peerId: `peer of ${name}`,
      host: '127.0.0.1',
      port,
      log: silentLog,
      allowed: plan.allowed,
      rest: plan.rest ?? new LaneRest(),
      busy: new Set(),
      tell: (message) => {
        this.said.push(message);
        setImmediate(() => this.other.lanes.onMessage(relay?.redirect(message) ?? message));
      },
      sink: (kind) => this.sink(kind),
      opened: (socket) => {
        this.out = socket;
      },
      heard: (bytes) => void this.heard.push(Uint8Array.from(bytes)),
      died: () => {
        this.deaths += 1;
      },
    });
  }

  sink(by: LaneKind): FrameSink {
    return {
      allow: () => this.allow,
      allocate: (length) => new Uint8Array(length),
      onFrame: (frame) => {
        this.arrived.push({ ...frame, by });
        this.#wake.resolve();
        this.#wake = Promise.withResolvers();
      },
      onProgress: () => undefined,
    };
  }

  async until(count: number): Promise<readonly Arrived[]> {
    while (this.arrived.length < count) await this.#wake.promise;
    return this.arrived;
  }
}

/** Two ends that have greeted each other; `giver` sends, `taker` wants. */
export class Pair implements AsyncDisposable {
  readonly giver: End;
  readonly taker: End;
  readonly #stack: AsyncDisposableStack;

  private constructor(giver: End, taker: End, stack: AsyncDisposableStack) {
    this.giver = giver;
    this.taker = taker;
    this.#stack = stack;
  }

  /** Tickets that the giver gives name the relay's port, when there is one. */
  static async open(plans: { giver: EndPlan; taker: EndPlan }, relay?: Relay): Promise<Pair> {
    const stack = new AsyncDisposableStack();
    if (relay) stack.use(relay);
    const port = async ({ dialled }: EndPlan) =>
      dialled === false ? undefined : stack.use(await LanePort.open({ log: silentLog }, LOOPBACK));
    const giver = new End('giver', plans.giver, await port(plans.giver), relay);
    const taker = new End('taker', plans.taker, await port(plans.taker), undefined);
    giver.other = taker;
    taker.other = giver;
    for (const [end, plan] of [
      [giver, plans.taker],
      [taker, plans.giver],
    ] as const) {
      stack.defer(() => end.lanes.close(new Error('the test is over')));
      end.lanes.attachStream(memoryLane(() => end.other));
      end.lanes.greeted(plan.allowed);
    }
    return new Pair(giver, taker, stack);
  }

  send(request: number, bytes: Uint8Array): Promise<void> {
    return this.giver.lanes.send({ request, flags: 0, bytes }, { signal: new AbortController().signal });
  }

  /** The taker wants a lane; resolves with the kind that both ends then have, or fails after a while. */
  async settle(kind: LaneKind): Promise<void> {
    this.taker.lanes.want();
    for (let n = 0; n < 400; n += 1) {
      if (this.giver.lanes.kind === kind && this.taker.lanes.kind === kind) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`giver has ${this.giver.lanes.kind}, taker ${this.taker.lanes.kind}, not ${kind}`);
  }

  /** Both ends have been told that the fast lane between them is gone. */
  async dead(): Promise<void> {
    for (let n = 0; n < 400; n += 1) {
      if (this.giver.deaths > 0 && this.taker.deaths > 0) return;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`giver saw ${this.giver.deaths} lanes die, taker ${this.taker.deaths}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

export const LOOPBACK = { hosts: ['127.0.0.1'], port: 0 };

function memoryLane(to: () => End): Lane {
  return {
    send: async (frame) => {
      await new Promise((resolve) => setImmediate(resolve));
      const { request, flags, bytes } = frame;
      to()
        .sink('stream')
        .onFrame({ request, flags, bytes: Uint8Array.from(bytes) });
    },
    close: () => undefined,
  };
}

/** Stands between dialler and listener of fast lanes: passes bytes on, or does what the test wants with them. */
export class Relay implements AsyncDisposable {
  /** What the listener sends to the dialler passes through here. */
  change: (bytes: Buffer) => Buffer = (bytes) => bytes;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (dialler) => {
      const listener = connect(this.#target, '127.0.0.1');
      for (const socket of [dialler, listener]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => this.#sockets.delete(socket));
      }
      dialler.pipe(listener);
      listener.on('data', (bytes: Buffer) => dialler.write(this.change(bytes)));
      listener.on('close', () => dialler.destroy());
      dialler.on('close', () => listener.destroy());
    });
  }

  static async open(): Promise<Relay> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Relay(server);
  }

  redirect(message: LaneMessage): LaneMessage {
    if (message.kind !== 'lane-ticket' || message.ticket === undefined || message.ticket.port === 0) return message;
    this.#target = message.ticket.port;
    return { ...message, ticket: { ...message.ticket, port: (this.#server.address() as AddressInfo).port } };
  }

  /** Nothing goes on; new connections neither. */
  cut(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Everything stays open, and nothing gets through any more. */
  freeze(): void {
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.removeAllListeners('data');
      socket.pause();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
  }
}
