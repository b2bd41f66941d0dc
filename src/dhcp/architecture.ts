/** A client system architecture: option 93 of DHCPv4 (RFC 4578 section 2.1), 61 of DHCPv6 (RFC 5970). */
export interface Architecture {
  readonly code: number;
  readonly name: string;
  readonly firmware: 'bios' | 'uefi' | 'other';
  /** How its firmware fetches the first file. */
  readonly transport: 'tftp' | 'http';
  /** Which release of a channel it runs; absent for those that bootmesh has no releases for. */
  readonly release?: 'x86_64';
  /** The iPXE binary its firmware is given. Absent means unsupported: the client is named in the log, not guessed at. */
  readonly firstStage?: string;
}

type Row = readonly [code: number, name: string, firmware: Architecture['firmware'], transport: 'tftp' | 'http'];

/** IANA's "Processor Architecture Types". 7 and 9 both mean x64 UEFI: firmware in the field sends either. */
const ROWS: readonly Row[] = [
  [0, 'x86 BIOS', 'bios', 'tftp'],
  [1, 'NEC PC-98', 'other', 'tftp'],
  [2, 'Itanium UEFI', 'uefi', 'tftp'],
  [3, 'DEC Alpha', 'other', 'tftp'],
  [4, 'ARC x86', 'other', 'tftp'],
  [5, 'Intel Lean Client', 'other', 'tftp'],
  [6, 'x86 UEFI', 'uefi', 'tftp'],
  [7, 'x64 UEFI', 'uefi', 'tftp'],
  [8, 'XScale UEFI', 'uefi', 'tftp'],
  [9, 'x64 UEFI (EBC)', 'uefi', 'tftp'],
  [10, 'arm32 UEFI', 'uefi', 'tftp'],
  [11, 'arm64 UEFI', 'uefi', 'tftp'],
  [12, 'PowerPC Open Firmware', 'other', 'tftp'],
  [13, 'PowerPC ePAPR', 'other', 'tftp'],
  [14, 'POWER OPAL v3', 'other', 'tftp'],
  [15, 'x86 UEFI HTTP', 'uefi', 'http'],
  [16, 'x64 UEFI HTTP', 'uefi', 'http'],
  [17, 'EBC UEFI HTTP', 'uefi', 'http'],
  [18, 'arm32 UEFI HTTP', 'uefi', 'http'],
  [19, 'arm64 UEFI HTTP', 'uefi', 'http'],
  [20, 'x86 BIOS HTTP', 'bios', 'http'],
  [21, 'arm32 U-Boot', 'other', 'tftp'],
  [22, 'arm64 U-Boot', 'other', 'tftp'],
  [23, 'arm32 U-Boot HTTP', 'other', 'http'],
  [24, 'arm64 U-Boot HTTP', 'other', 'http'],
  [25, 'RISC-V 32 UEFI', 'uefi', 'tftp'],
  [26, 'RISC-V 32 UEFI HTTP', 'uefi', 'http'],
  [27, 'RISC-V 64 UEFI', 'uefi', 'tftp'],
  [28, 'RISC-V 64 UEFI HTTP', 'uefi', 'http'],
  [29, 'RISC-V 128 UEFI', 'uefi', 'tftp'],
  [30, 'RISC-V 128 UEFI HTTP', 'uefi', 'http'],
  [31, 's390 Basic', 'other', 'tftp'],
  [32, 's390 Extended', 'other', 'tftp'],
  [33, 'MIPS32 UEFI', 'uefi', 'tftp'],
  [34, 'MIPS64 UEFI', 'uefi', 'tftp'],
  [35, 'Sunway 32 UEFI', 'uefi', 'tftp'],
  [36, 'Sunway 64 UEFI', 'uefi', 'tftp'],
  [37, 'LoongArch32 UEFI', 'uefi', 'tftp'],
  [38, 'LoongArch32 UEFI HTTP', 'uefi', 'http'],
  [39, 'LoongArch64 UEFI', 'uefi', 'tftp'],
  [40, 'LoongArch64 UEFI HTTP', 'uefi', 'http'],
  [41, 'Raspberry Pi', 'other', 'tftp'],
];

/** What bootmesh boots so far. UEFI joins here, with `snponly.efi`, when its answers stand. */
const SUPPORTED: ReadonlyMap<number, Pick<Architecture, 'release' | 'firstStage'>> = new Map([
  [0, { release: 'x86_64' as const, firstStage: 'undionly.kpxe' }],
]);

const TABLE: ReadonlyMap<number, Architecture> = new Map(
  ROWS.map(([code, name, firmware, transport]) => [
    code,
    { code, name, firmware, transport, ...SUPPORTED.get(code) } satisfies Architecture,
  ]),
);

/** The architecture of a code; codes that nobody has assigned get a name that says so. */
export function architecture(code: number): Architecture {
  return TABLE.get(code) ?? { code, name: `unassigned architecture ${code}`, firmware: 'other', transport: 'tftp' };
}

/** Firmware lists what it can run, best first (RFC 4578): the first that bootmesh supports, else the first. */
export function bestArchitecture(codes: readonly number[]): Architecture | undefined {
  const listed = codes.map(architecture);
  return listed.find(({ firstStage }) => firstStage !== undefined) ?? listed[0];
}
