"""Real servers for mail, files and directories behind pen: postfix, dovecot, vsftpd and slapd, each with a
configuration and all its files in the test's directory.  They are started by root, and take on other users
where they do so in life."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from support.lab import Lab
from support.ports import listens
from support.process import Process
from support.programs import find
from support.waiting import wait_until

PASSWORD = "tr0ub4dor"
"""Of everybody."""


class Service:
    """A program that is to listen on `host` and `port`; `directory` is its own."""

    def __init__(self, lab: Lab, words: Sequence[object], directory: Path, host: str, port: int) -> None:
        self.lab, self.words, self.directory = lab, list(map(str, words)), directory
        self.host, self.port = host, port
        self.process: Process
        self.start()

    def start(self) -> None:
        self.process = self.lab.spawn(self.words, self.directory.name)
        wait_until(
            lambda: not self.process.alive or listens(self.process.pid, self.port, self.host),
            f"{self.process.name} listens",
        )
        assert self.process.alive, self.process.err

    def kill(self) -> None:
        self.process.kill_tree()


def _prepare(lab: Lab, name: str, host: str, *directories: str) -> Path:
    """Its directory, and others in it."""
    made = lab.directory / f"{name}-{host}"
    for directory in ("", *directories):
        (made / directory).mkdir()
    return made


POSTFIX = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = server.example.test
smtpd_banner = {host} ESMTP
inet_interfaces = all
inet_protocols = ipv4
mynetworks =
mydestination =
alias_maps =
local_recipient_maps =
virtual_mailbox_domains = example.test
virtual_mailbox_base = {mailboxes}
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_recipient_restrictions = reject_unauth_destination
"""

POSTFIX_SERVICES = """
{host}:25 inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

QUEUES = ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "maildrop",
          "private", "public", "saved", "trace"]  # fmt: skip
"""What `postfix start` makes, which would see to the system's own directories as well."""


def mailboxes(lab: Lab) -> Path:
    """The directory of all mailboxes, as on a file server that all mail servers use."""
    directory = lab.directory / "mailboxes"
    directory.mkdir()
    shutil.chown(directory, "nobody", "nogroup")
    return directory


def messages(boxes: Path) -> list[str]:
    """The text of all messages."""
    return [path.read_text() for path in boxes.glob("box/*/*") if path.parent.name in ("new", "cur")]


def postfix(lab: Lab, host: str, boxes: Path) -> Service:
    """On port 25; puts all mail for example.test in one mailbox, and greets with the host."""
    directory = _prepare(lab, "postfix", host, "data", "queue", "queue/pid", *(f"queue/{q}" for q in QUEUES))
    for path in [directory / "data", *(directory / "queue" / name for name in QUEUES)]:
        shutil.chown(path, "postfix")
    values = {"directory": directory, "host": host, "mailboxes": boxes}
    (directory / "main.cf").write_text(POSTFIX.format(**values))
    (directory / "master.cf").write_text(POSTFIX_SERVICES.format(**values))
    return Service(lab, ["/usr/lib/postfix/sbin/master", "-c", directory, "-d"], directory, host, 25)


DOVECOT = """
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = pop3
listen = {host}
login_greeting = {host}
ssl = no
login_trusted_networks = {trusted}
mail_location = maildir:{mailboxes}/box
first_valid_uid = 1
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={mailboxes}
}}
service anvil {{
  chroot =
}}
service pop3-login {{
  chroot =
}}
"""


def dovecot(lab: Lab, host: str, boxes: Path, trusted: str) -> Service:
    """POP3 on port 110 for that mailbox, whatever the user; greets with the host. It takes passwords without
    TLS from the address that it is to trust."""
    directory = _prepare(lab, "dovecot", host, "run", "state")
    file = directory / "dovecot.conf"
    values = {
        "directory": directory,
        "host": host,
        "mailboxes": boxes,
        "password": PASSWORD,
        "trusted": trusted,
    }
    file.write_text(DOVECOT.format(**values))
    return Service(lab, [find("dovecot") or "dovecot", "-F", "-c", file], directory, host, 110)


VSFTPD = """
listen=YES
background=NO
listen_address={host}
ftpd_banner={host}
anonymous_enable=YES
anon_root={directory}/files
secure_chroot_dir={directory}/empty
vsftpd_log_file={directory}/log
xferlog_enable=YES
log_ftp_protocol=YES
"""


def vsftpd(lab: Lab, host: str, more: str, under: Sequence[str] = ()) -> Service:
    """For anybody; it has a file `name`, which holds its host. `more` is added to its configuration, `under`
    are words to run it under."""
    directory = _prepare(lab, "vsftpd", host, "files", "empty")
    (directory / "files" / "name").write_text(f"{host}\n")
    file = directory / "vsftpd.conf"
    file.write_text(VSFTPD.format(directory=directory, host=host) + more)
    return Service(lab, [*under, find("vsftpd"), file], directory, host, 21)


SLAPD = """
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/pid
database mdb
maxsize 1048576
suffix dc=example,dc=test
directory {directory}/data
rootdn cn=admin,dc=example,dc=test
rootpw {password}
"""

ENTRY = """
dn: dc=example,dc=test
objectClass: dcObject
objectClass: organization
dc: example
o: {host}
"""


def slapd(lab: Lab, host: str) -> Service:
    """Knows one entry, dc=example,dc=test, whose `o` is the host."""
    directory = _prepare(lab, "slapd", host, "data")
    file, entry = directory / "slapd.conf", directory / "entry.ldif"
    file.write_text(SLAPD.format(directory=directory, password=PASSWORD))
    entry.write_text(ENTRY.format(host=host))
    done = lab.run_words([find("slapadd") or "slapadd", "-f", str(file), "-l", str(entry)])
    assert done.code == 0, done
    return Service(lab, [find("slapd"), "-d", "0", "-h", f"ldap://{host}", "-f", file], directory, host, 389)
