// One boot node with a plain HTTP server, for tests: run inside a network namespace, told what to be in BOOT_NODE, and
// asked over the IPC channel. Its release is given; swarm and signatures are other rooms' business.
import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import { createServer } from 'node:http';
import { createBoot } from '../../src/boot/boot.ts';
import type { BootOptions } from '../../src/boot/options.ts';
import type { BootRelease } from '../../src/boot/release.ts';
import { createLog, type LogLevel } from '../../src/observe/log.ts';

export interface NodeDescription {
  readonly name: string;
  readonly dataDirectory: string;
  readonly options: BootOptions;
  /** PEM. */
  readonly privateKey: string;
  /** Peer id → PEM of its public key. */
  readonly members: Readonly<Record<string, string>>;
  /** Text of the artifacts by CID; the release is made of `kernel` and `initramfs`. Absent: the node holds nothing. */
  readonly release?: { readonly version: number; readonly commandLine: string };
  readonly logLevel?: LogLevel;
}

const description = JSON.parse(process.env['BOOT_NODE'] ?? '{}') as NodeDescription;
const { name, members, options } = description;
const privateKey = createPrivateKey(description.privateKey);
const publicKeys = new Map(Object.entries(members).map(([id, pem]) => [id, createPublicKey(pem)]));

const artifact = (cid: string) => ({
  cid,
  size: cid.length,
  sha256: createHash('sha256').update(cid).digest('hex'),
});
const given = description.release;
const release: BootRelease | undefined = given && {
  channel: options.channel,
  version: given.version,
  digest: createHash('sha256').update(JSON.stringify(given)).digest('hex'),
  kernel: artifact('kernelcid'),
  initramfs: artifact('initramfscid'),
  commandLine: given.commandLine,
};

const boot = await createBoot(
  {
    name,
    log: createLog({ level: description.logLevel ?? 'silent' }).with({ node: name }),
    dataDirectory: description.dataDirectory,
    identity: {
      peerId: name,
      sign: (bytes) => sign(null, bytes, privateKey),
      verify: (peerId, bytes, signature) => {
        const key = publicKeys.get(peerId);
        return key !== undefined && verify(null, bytes, key, signature);
      },
    },
    membership: { member: (peerId) => (publicKeys.has(peerId) ? {} : undefined) },
    releases: {
      current: (channel) => (release?.channel === channel ? release : undefined),
      holds: () => release !== undefined,
    },
  },
  options,
);

const gateway = createServer((request, response) => {
  const path = new URL(request.url ?? '/', 'http://node').pathname;
  const script = /^\/boot\/([^/]+)$/.exec(path)?.[1];
  const route = boot.routes[0];
  process.send?.({ requested: path });
  if (script !== undefined && route !== undefined) {
    const client = request.socket.remoteAddress?.replace(/^::ffff:/, '') ?? '';
    void route.handle(request, response, { params: { script }, client });
  } else {
    response.writeHead(404).end();
  }
}).listen(options.gatewayPort ?? 8080);

process.on('message', (question: unknown) => {
  if (question === 'status') process.send?.({ status: boot.status(), rss: process.memoryUsage().rss });
});
process.on('disconnect', async () => {
  gateway.closeAllConnections();
  gateway.close();
  await boot[Symbol.asyncDispose]();
});
process.send?.({ ready: true });
