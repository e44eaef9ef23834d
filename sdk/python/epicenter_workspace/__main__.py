"""`python -m epicenter_workspace [MODULE] [--out FILE]`: builds a workspace into a plugin.

MODULE is the one that names the `workspace` (`app` unless said), in the folder where this runs. It is
imported while the plugin is built, so what is wrong with the definition comes to light here.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import subprocess
import sys
import tempfile
from pathlib import Path

COMPONENTIZE = "0.25.1"
SDK = Path(__file__).resolve().parent

CONTRACT = SDK / ("wit" if (SDK / "wit").exists() else "../../../wit/0.2.0")
"""The contract with the host: the SDK's own copy, or in the host's repository the one for all SDKs."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m epicenter_workspace", description="Builds a workspace.")
    parser.add_argument("module", nargs="?", default="app", help="the module that names the workspace")
    parser.add_argument("--out", type=Path, help="where the plugin goes; dist/{name of the folder}.wasm")
    options = parser.parse_args()
    try:
        importlib.metadata.version("componentize-py")
    except importlib.metadata.PackageNotFoundError:
        print(f"{sys.executable} has no componentize-py: pip install componentize-py=={COMPONENTIZE}", file=sys.stderr)
        return 1
    out = options.out or Path("dist", f"{Path.cwd().name}.wasm")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    with tempfile.TemporaryDirectory() as folder:
        # What componentize-py looks for: a module with a class for the exported interface.
        Path(folder, "epicenter_start.py").write_text(
            f"from {options.module} import workspace\n"
            "from epicenter_workspace.guest import guest_of\n\n"
            "Guest = guest_of(workspace)\n"
        )
        command = [
            *("componentize-py", "--wit-path", CONTRACT, "--world", "workspace", "componentize"),
            *("--python-path", Path.cwd(), "--python-path", SDK.parent, "--python-path", folder),
            *("--output", partial.resolve(), "epicenter_start"),
        ]
        # By its path, so that it is found in an environment that is not activated, too.
        command[0] = str(Path(sys.executable).with_name("componentize-py"))
        status = subprocess.run(command, check=False).returncode
    if status != 0:
        partial.unlink(missing_ok=True)
        return status
    # At once, because a running host may watch the folder.
    partial.replace(out)
    print(f"{out}  {out.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
