import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { CourierInvalid, readCourier, writeCourier } from '../../src/enrolment/courier.ts';

suite('courier', () => {
  test('carries what it was given', () => {
    const documents = new Map([['1.root.json', Buffer.from('root')]]);
    const statements = [Buffer.from('one'), Buffer.from('two')];
    const read = readCourier(writeCourier({ documents, statements }));
    assert.deepEqual([...read.documents.keys()], ['1.root.json']);
    assert.deepEqual(
      read.statements.map((bytes) => Buffer.from(bytes)),
      statements,
    );
  });

  test('whatever a file holds, it is read or refused', () => {
    const whole = writeCourier({ documents: new Map([['a', Buffer.from('b')]]), statements: [Buffer.from('c')] });
    assert.throws(() => readCourier(Buffer.from('hosts')), /courier export/);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.uint8Array({ maxLength: 8 }), (length, more) => {
        const bytes = Buffer.concat([whole.subarray(0, length), more]);
        try {
          readCourier(bytes);
        } catch (error) {
          assert.ok(error instanceof CourierInvalid);
        }
      }),
    );
  });
});
