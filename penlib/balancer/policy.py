"""What pen asks of TLS, whatever the certificate: versions, ciphers, options, protocols, client certificates.

Made from -L -Z -R and the ssl_* commands.
"""

import ssl
import warnings
from typing import NamedTuple

from penlib.balancer.settings import SSL_OPTIONS, TLS_LEAST, Options, Settings
from penlib.errors import UsageError

VERSIONS = {
    "ssl23": ssl.TLSVersion.MINIMUM_SUPPORTED,
    "tls1": ssl.TLSVersion.TLSv1,
    "tls1.1": ssl.TLSVersion.TLSv1_1,
    "tls1.2": ssl.TLSVersion.TLSv1_2,
    "tls1.3": ssl.TLSVersion.TLSv1_3,
}
assert tuple(VERSIONS) == TLS_LEAST

FLAGS = {
    "no_sslv2": 0,  # nobody has it any more
    "no_sslv3": ssl.OP_NO_SSLv3,
    "no_tlsv1": ssl.OP_NO_TLSv1,
    "no_tlsv1.1": ssl.OP_NO_TLSv1_1,
    "no_tlsv1.2": ssl.OP_NO_TLSv1_2,
    "cipher_server_preference": ssl.OP_CIPHER_SERVER_PREFERENCE,
}
assert tuple(FLAGS) == SSL_OPTIONS

ALWAYS = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_SSLv2 | ssl.OP_NO_SSLv3
ALWAYS |= ssl.OP_IGNORE_UNEXPECTED_EOF
"""Renegotiation lets a client have our CPU for little of its own, and compression tells secrets (CRIME)."""

ENABLE_KTLS = 0x8
"""SSL_OP_ENABLE_KTLS, openssl/ssl.h; Python has a name for it from 3.12 on.  A system may switch it on for
all (openssl.cnf), but with the keys in the kernel nothing can stand between OpenSSL and the socket."""

OLD = "DEFAULT:@SECLEVEL=0"
"""The ciphers for TLS 1.0 and 1.1, whose signatures are SHA-1: OpenSSL refuses that above level 0."""


class Policy(NamedTuple):
    """See above."""

    least: ssl.TLSVersion
    options: int
    ciphers: str
    alpn: list[str]
    required: bool


def policy(options: Options, settings: Settings) -> Policy:
    """What `options` and `settings` ask for.  Raises UsageError if OpenSSL knows none of the ciphers."""
    least = VERSIONS[options.tls_least]
    flags = int(ALWAYS) | (int(ssl.OP_ALL) if options.tls_compatible else 0)
    for name in settings.ssl_options:
        flags |= int(FLAGS[name])
    old = options.tls_least in ("ssl23", "tls1", "tls1.1")
    ciphers = settings.ssl_ciphers or (OLD if old else "DEFAULT")
    made = Policy(least, flags, ciphers, settings.ssl_alpn.split(","), options.client_required)
    bare_context(made)
    return made


def bare_context(policy: Policy) -> ssl.SSLContext:
    """A context without a certificate.  Raises UsageError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions: whoever asks for them knows
        made.minimum_version = policy.least
        kept = made.options & ~ssl.OP_ALL & ~ssl.OP_CIPHER_SERVER_PREFERENCE & ~ENABLE_KTLS
        made.options = ssl.Options(kept | policy.options)
    try:
        made.set_ciphers(policy.ciphers)
    except ssl.SSLError:
        raise UsageError(f"'{policy.ciphers}': OpenSSL has none of these ciphers") from None
    made.set_alpn_protocols(policy.alpn)
    return made
