"""Asks a database of vulnerabilities about every locked version, with pip-audit; says plainly what could not be asked.

    python requirements/audit.py requirements/function.txt ...

Exit status: 0, all were asked about and none is known to be vulnerable; 1, some are; 2, no database could be had for
some or all, and of the others none is. PyPI is asked first, then OSV: neither is there without the network, and a
mirror of PyPI often has the packages and not what is known of them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_SERVICES = ("pypi", "osv")
_MAX_WAIT_S = 180
CLEAN, VULNERABLE, NOT_ASKED = 0, 1, 2


def asked(file: Path, service: str) -> list[dict[str, Any]]:
    """What a service knows of the packages in a requirements file; nothing if it cannot be reached."""
    # The versions are locked: nothing has to be resolved, nor fetched.
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    command += ["--vulnerability-service", service, "--timeout", "10", "--format", "json", "--requirement", str(file)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_MAX_WAIT_S)
        return list(json.loads(done.stdout)["dependencies"])
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return []


def audit(files: list[Path]) -> int:
    """Ask about every file, print what is known, and return the exit status."""
    vulnerable, not_asked = False, False
    for file in files:
        for service in _SERVICES:
            packages = asked(file, service)
            known = [package for package in packages if "skip_reason" not in package]
            if known:
                break
        for package in known:
            for found in package["vulns"]:
                vulnerable = True
                mended = ", ".join(found["fix_versions"]) or "no version yet"
                print(f"{package['name']} {package['version']}: {found['id']}, mended in {mended}")
        if not known or len(known) < len(packages):
            not_asked = True
            how_many = f"{len(known)} of {len(packages)} packages" if known else "no package"
            print(f"{file}: NOT AUDITED: {how_many} could be asked about; neither PyPI nor OSV answered.")
        else:
            print(f"{file}: {len(known)} packages asked about at {service}")
    return VULNERABLE if vulnerable else NOT_ASKED if not_asked else CLEAN


if __name__ == "__main__":
    sys.exit(audit([Path(name) for name in sys.argv[1:]]))
