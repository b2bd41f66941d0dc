import { Namespace } from './namespace.ts';
import type { Port } from './topology.ts';

/**
 * Makes routers answer the solicitations of bare machines (RFC 4861 section 6.2.6), as IPv6 routers do. Where nobody
 * answers, iPXE waits 16 s for it in every boot, with its DHCP lease already in hand: it configures all families
 * before it goes on (ifconf, seen in the ROMs of 2019). Each router's dnsmasq ends with its namespace or with us;
 * where dnsmasq is not installed, nobody announces anything.
 */
export function advertiseRouters(ports: readonly Port[]): void {
  const routers = Map.groupBy(ports, ({ namespace }) => namespace);
  for (const [namespace, own] of routers) {
    const ranges = own.flatMap(({ interface: name }) => [
      `--interface=${name}`,
      `--dhcp-range=::,constructor:${name},ra-only`,
    ]);
    const program = ['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--pid-file=', '--user=root'];
    const service = ['--port=0', '--leasefile-ro', '--enable-ra', '--quiet-ra', ...ranges];
    const argv = ['setpriv', '--pdeathsig', 'KILL', ...program, ...service];
    const child = new Namespace(namespace).spawn(argv, { stdio: 'ignore' });
    child.on('error', () => {}); // Without `ip` the network would not stand.
    child.unref();
  }
}
