"""Checks that no package of this workspace promises an older Rust than a package that it is built with.

`rust-version` is what cargo tells a user whose Rust is too old; where a dependency asks for a newer one, that user's build
fails in the midst of it instead. What a package asks for is what it declares itself: no older Rust is run here.
"""

import json
import subprocess
import sys


def cargo_metadata():
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--all-features"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def version(text):
    """`1.89` and `1.89.1` as numbers that compare."""
    numbers = [int(part) for part in text.split(".")]
    return tuple(numbers + [0] * (3 - len(numbers)))


def built_with(package, nodes):
    """All packages that `package` needs to be built, itself among them: what only tests use is left out."""
    found, to_visit = set(), [package]
    while to_visit:
        here = to_visit.pop()
        if here in found:
            continue
        found.add(here)
        for dependency in nodes[here]["deps"]:
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                to_visit.append(dependency["pkg"])
    return found


def main():
    metadata = cargo_metadata()
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    n_faults, silent = 0, set()
    for member in metadata["workspace_members"]:
        promised = packages[member]["rust_version"]
        for package in (packages[package] for package in built_with(member, nodes)):
            needed = package["rust_version"]
            if needed is None:
                silent.add(package["id"])
            elif version(needed) > version(promised):
                n_faults += 1
                print(
                    f"{packages[member]['name']} promises Rust {promised}, and"
                    f" {package['name']} {package['version']} needs {needed}",
                    file=sys.stderr,
                )
    print(f"rust-version: {n_faults} too old; {len(silent)} of {len(packages)} packages do not say theirs")
    return n_faults != 0


if __name__ == "__main__":
    sys.exit(main())
