"""Real certificates for TLS tests."""

import trustme

from amlrealtimeai.serving.ports.tls import Tls


class Authority:
    """A certificate authority of one test run."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str) -> Tls:
        leaf = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1")))
        return Tls(b"".join(pem.bytes() for pem in leaf.cert_chain_pems), leaf.private_key_pem.bytes())
