"""Start a Ray head that nobody reaches without its token.

    python cluster/head.py [--host ADDRESS] [-- any flag of `ray start`]

Whoever reaches a head's ports runs what he likes on it: Ray's job API is remote code execution by design. The job API
listens on this machine alone unless an address is named, but Ray's other ports listen on every address whatever one
asks for. So no head starts with authentication off, and on a public address none without a token that is there already.
"""

import argparse
import ipaddress
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from raysae.errors import RaysaeError, Refused

LOOPBACK = "127.0.0.1"


def has_token(environment: Mapping[str, str]) -> bool:
    """Whether Ray will find one, where it looks: two variables, then a file in the home folder."""
    if environment.get("RAY_AUTH_TOKEN", "").strip():
        return True
    path = Path(environment.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    return path.is_file() and bool(path.read_text().strip())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; a name that is none of ours is taken for public."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(host: str, environment: Mapping[str, str]) -> None:
    """Refused without authentication, and on a public address without a token."""
    cure = "type ray get-auth-token --generate > /dev/null, and RAY_AUTH_MODE=token on every node and client"
    reason = "whoever reaches its ports runs code on it"
    if environment.get("RAY_AUTH_MODE", "token") != "token":
        raise Refused(f"a head with RAY_AUTH_MODE={environment['RAY_AUTH_MODE']}: {reason}; {cure}")
    if not is_loopback(host) and not has_token(environment):
        raise Refused(f"a head on {host} without a token: {reason}; {cure}")


def command(host: str, flags: Sequence[str]) -> list[str]:
    """`ray start`, with the job API on `host`."""
    return ["ray", "start", "--head", f"--dashboard-host={host}", *flags]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default=LOOPBACK, help="where the job API listens; 0.0.0.0 is every address")
    parser.add_argument("flags", nargs="*", help="passed on to `ray start`, behind --")
    arguments = parser.parse_args()
    environment = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **os.environ}
    try:
        check(arguments.host, environment)
    except RaysaeError as error:
        sys.stderr.write(f"raysae: {error}\n")
        return error.status
    if not has_token(environment):
        made = ["ray", "get-auth-token", "--generate"]  # it prints the token: not on a terminal, not in a log
        subprocess.run(made, env=environment, stdout=subprocess.DEVNULL, check=True)
    return subprocess.run(command(arguments.host, arguments.flags), env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
