// Certificates for tests: an authority of our own, and what it signed for localhost.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/**
 * Makes an authority and a certificate of it for `localhost` and `127.0.0.1`. Paths of PEM files:
 * `authority`, `cert` and `key`. Whatever comes with PostgreSQL has openssl.
 */
export function certificates() {
  const folder = mkdtempSync(path.join(tmpdir(), 'host-tls-'));
  const file = (name) => path.join(folder, name);
  const openssl = (...args) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2',
    '-subj', '/CN=Authority of the tests');
  openssl('req', ...key, '-keyout', 'key.pem', '-out', 'request.pem', '-subj', '/CN=localhost');
  writeFileSync(file('names'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  openssl('x509', '-req', '-in', 'request.pem', '-CA', 'ca.pem', '-CAkey', 'ca.key',
    '-CAcreateserial', '-out', 'cert.pem', '-days', '2', '-extfile', 'names');
  return {
    authority: file('ca.pem'),
    cert: file('cert.pem'),
    key: file('key.pem'),
    dispose: () => rmSync(folder, { recursive: true, force: true }),
  };
}
