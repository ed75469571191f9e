"""policy: what a system's settings of OpenSSL must not change.  The rest is tested in test_pen_tls."""

import os
import subprocess
import sys

import pytest

CONFIGURATION = """
openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = defaults
[defaults]
Options = KTLS
"""

PROGRAM = """
import ssl
from penlib.balancer.policy import bare_context, policy
from penlib.balancer.settings import Options, Settings
ours = bare_context(policy(Options(), Settings()))
print(int(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).options), int(ours.options))
"""


def test_the_kernel_gets_no_keys(tmp_path):
    """With openssl.cnf a system can have that for all programs."""
    file = tmp_path / "openssl.cnf"
    file.write_text(CONFIGURATION)
    env = {**os.environ, "OPENSSL_CONF": str(file)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, check=True)
    usual, ours = map(int, done.stdout.split())
    if not usual & 8:
        pytest.skip("this OpenSSL does not know it")
    assert not ours & 8
