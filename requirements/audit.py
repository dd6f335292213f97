"""Check all locked versions for known vulnerabilities with pip-audit.

    python requirements/audit.py requirements/function.txt ...

Exit status:

0   Every version was checked, and none has a known vulnerability.
1   Some versions have a known vulnerability.
2   Some versions could not be checked, and the others have no known vulnerability.

The script queries PyPI first and OSV second. Both need the network, and mirrors of PyPI often lack vulnerability data.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_SERVICES = ("pypi", "osv")
_TIMEOUT_S = 180
CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 2


def query(file: Path, service: str) -> list[dict[str, Any]]:
    """Return a service's reports on the packages in a requirements file, or none if the service does not answer."""
    # --no-deps and --disable-pip: the versions are locked, so pip has nothing to resolve or download.
    command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner", "off"]
    command += ["--vulnerability-service", service, "--timeout", "10", "--format", "json", "--requirement", str(file)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TIMEOUT_S)
        return list(json.loads(done.stdout)["dependencies"])
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return []


def audit(files: list[Path]) -> int:
    """Check every file, print the findings, and return the exit status."""
    has_vulnerability, is_complete = False, True
    for file in files:
        for service in _SERVICES:
            packages = query(file, service)
            checked = [package for package in packages if "skip_reason" not in package]
            if checked:
                break
        for package in checked:
            for found in package["vulns"]:
                has_vulnerability = True
                fixed = ", ".join(found["fix_versions"]) or "no version yet"
                print(f"{package['name']} {package['version']}: {found['id']}, fixed in {fixed}")
        if not checked or len(checked) < len(packages):
            is_complete = False
            missing = f"{len(packages) - len(checked)} of {len(packages)} packages" if checked else "any package"
            print(f"{file}: NOT AUDITED: neither PyPI nor OSV has data on {missing}.")
        else:
            print(f"{file}: {len(checked)} packages checked with {service}")
    if has_vulnerability:
        return VULNERABLE
    return CLEAN if is_complete else NOT_AUDITED


if __name__ == "__main__":
    sys.exit(audit([Path(name) for name in sys.argv[1:]]))
