import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CommandLineError, checkCommandLine, fillCommandLine } from '../../src/boot/command-line.ts';

const names = ['kernel', 'initramfs', 'rootfs'];
const artifact = { cid: 'bafyroot', size: 4711, sha256: 'ab12' };
const values = {
  neighbour: 'http://10.0.0.1:8080',
  neighbours: ['http://10.0.0.1:8080', 'http://10.0.0.2:8080'],
  mac: '52:54:00:12:34:56',
  channel: 'production',
  version: 7,
  artifacts: new Map(names.map((name) => [name, artifact] as const)),
};

describe('command lines', () => {
  it('are filled in, and gain what the initramfs needs', () => {
    const template =
      'root=live:{{artifact:rootfs}} a={{neighbours}} m={{ mac }} s={{sha256:rootfs}} v={{channel}}-{{version}}';
    assert.equal(
      fillCommandLine(template, values),
      'root=live:http://10.0.0.1:8080/artifact/bafyroot a=http://10.0.0.1:8080,http://10.0.0.2:8080 ' +
        'm=52:54:00:12:34:56 s=ab12 v=production-7 initrd=initramfs bootmesh.channel=production bootmesh.version=7 ' +
        'BOOTIF=01-52-54-00-12-34-56 bootmesh.neighbours=http://10.0.0.1:8080,http://10.0.0.2:8080',
    );
  });

  it('with unknown names are refused, and the message says which and what is known', () => {
    const refused = (template: string, part: string, message: RegExp, artifacts = names) =>
      assert.throws(
        () => checkCommandLine(template, artifacts),
        (error) => error instanceof CommandLineError && error.part === part && message.test(error.message),
      );
    refused('a={{neighbor}}', '{{neighbor}}', /{{neighbor}} is unknown; known are neighbour, neighbours, mac/);
    refused('a={{artifact:rootfs}}', '{{artifact:rootfs}}', /the release has not; it has kernel/, ['kernel']);
    refused('a={{artifact}}', '{{artifact}}', /unknown/);
    refused('a={{mac', '{{', /lone '{{'/);
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the fault.
    refused('a=${net0/mac}', '${', /iPXE would expand/);
    refused('quiet || shell', '||', /'\|\|' would end it early/);
    refused('quiet #x', '#x', /end it early/);
    refused('a\nshell', '\n', /U\+000A/);
    refused('ä', 'ä', /printable ASCII/);
    refused('x'.repeat(2000), '', /2000 characters, at most 1024/);
    checkCommandLine('console=ttyS0 a=b#c x=&&y {{version}}', names);
  });

  it('drop neighbours that Linux has no room for', () => {
    const neighbours = Array.from({ length: 100 }, (_, n) => `http://10.0.0.${n}:8080`);
    const line = fillCommandLine('x'.repeat(1000), { ...values, neighbours });
    assert.ok(line.length <= 2047 && line.length > 2000);
    assert.match(line, /8080$/);
  });

  it('never carry anything that iPXE acts on, whatever the template', () => {
    const piece = fc.constantFrom(
      '{{',
      '}}',
      'mac',
      '{{mac}}',
      ' ',
      '||',
      '&&',
      ';',
      '#',
      '$',
      '{',
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the fault.
      '${x}',
      '\n',
      'a',
      '=',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        try {
          const line = fillCommandLine(pieces.join(''), values);
          assert.match(line, /^[\x20-\x7e]*$/);
          assert.ok(!line.includes('${') && !/(^| )(\|\||&&|;|#\S*)( |$)/.test(line));
        } catch (error) {
          if (!(error instanceof CommandLineError)) throw error;
        }
      }),
      { numRuns: 5000 },
    );
  });
});
