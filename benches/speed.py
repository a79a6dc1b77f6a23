#!/usr/bin/env python3
"""Measures `callspan replay` of captures of many calls beside other programs, interleaved, and prints medians.

    benches/speed.py [--runs N] [--svg FILE] [--before BINARY] [--out DIR] [--prepare COMMAND] CALLSPAN CAPTURE=CALL_SECONDS...

CALLSPAN is the binary. A capture comes from `cargo bench --bench whole_job -- 1000x30 --in DIR`: DIR/1000x30.pcap has 30,000
seconds of call. The other programs are another binary (--before) and those of PEERS that are on the PATH. `floor` reads the
capture and writes, syncs and hashes the files that callspan makes of it, and does nothing else.

The results are written below DIR (default: beside the captures). COMMAND runs before each program and is not measured. It can
make a new file system at DIR: ext4 looks for an inode among those that were freed in the last five minutes, and this search
can take as long as all other work.

CPU time is that of the process in user and system mode. --svg draws it for each second of call against the calls under way,
which the name of the capture says (100x8.pcap: 100).
"""
import argparse
import hashlib
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

# Programs that a comparison runs if they are there: name, and arguments before the capture (by their manuals); OUT is a new
# folder.
PEERS = {
    "voipmonitor": ["voipmonitor", "-k", "-c", "-W", "-d", "OUT", "-r"],
    "pcapsipdump": ["pcapsipdump", "-d", "OUT", "-r"],
}


def measured(command):
    """Runs a command. Returns CPU seconds, wall seconds and MiB at most."""
    begin = os.times().elapsed
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{command} failed: {child.returncode}")
    return usage.ru_utime + usage.ru_stime, os.times().elapsed - begin, usage.ru_maxrss / 1024


def floor(capture, made, out):
    """Does the work that no recorder can avoid. Runs in a process of its own."""
    with open(capture, "rb", buffering=0) as file:
        while file.read(1 << 18):
            pass
    folder = os.open(out, os.O_RDONLY)
    for path in made.iterdir():
        content, part = path.read_bytes(), out / f"{path.name}.part"
        with open(part, "wb", buffering=0) as file:
            for at in range(0, len(content), 1 << 16):
                file.write(content[at : at + (1 << 16)])
            hashlib.sha256(content)
            os.fsync(file.fileno())
        part.rename(out / path.name)
    os.fsync(folder)


def run(program, capture, results):
    if results.prepare:
        subprocess.run(results.prepare, shell=True, check=True, stdout=subprocess.DEVNULL)
    # A folder of its own that stays until the end: ext4 looks long for an inode right after many were freed.
    out = tempfile.mkdtemp(dir=results.out)
    words = [out if word == "OUT" else word for word in program]
    return measured([*words, str(capture)])


def compare(programs, capture, runs, folder, results):
    """Returns for each program the medians of CPU seconds, wall seconds and MiB."""
    made = folder / f"made-{pathlib.Path(capture).stem}"
    subprocess.run([programs["callspan"][0], "replay", "--out", made, capture], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(made / ".callspan", ignore_errors=True)
    every = dict(programs, floor=[sys.executable, __file__, "--floor", str(made), "OUT"])
    measures = {name: [] for name in every}
    for _ in range(runs):
        for name, program in every.items():
            measures[name].append(run(program, capture, results))
    return {name: [statistics.median(column) for column in zip(*found)] for name, found in measures.items()}


def svg(points):
    """Draws CPU milliseconds for each second of call (up) against calls under way (right, logarithmic)."""
    import math

    width, height, left, bottom = 640, 320, 60, 40
    most = max(y for line in points.values() for _, y in line) * 1.15
    columns = sorted({x for line in points.values() for x, _ in line})
    low, high = math.log(columns[0]), math.log(max(columns[-1], columns[0] * 1.01))
    across = lambda x: left + (width - left - 20) * (math.log(x) - low) / (high - low)
    up = lambda y: height - bottom - (height - bottom - 20) * y / most
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">']
    out.append(f'<rect width="{width}" height="{height}" fill="white"/>')
    for n in range(5):
        y = most * n / 4
        out.append(f'<path d="M{left} {up(y):.1f}H{width - 20}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{y:.2f}</text>')
    for x in columns:
        out.append(f'<text x="{across(x):.1f}" y="{height - 22}" text-anchor="middle">{x:,}</text>')
    out.append(f'<text x="{width / 2}" y="{height - 5}" text-anchor="middle">calls under way</text>')
    out.append(f'<text x="{left}" y="14">CPU milliseconds for each second of call</text>')
    for n, (name, line) in enumerate(points.items()):
        colour = ["#2266bb", "#bb6622", "#888888", "#228844"][n % 4]
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in sorted(line))
        out.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = max(line)
        out.append(f'<text x="{across(x):.1f}" y="{up(y) - 6:.1f}" text-anchor="end" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def main():
    if sys.argv[1:2] == ["--floor"]:
        return floor(sys.argv[4], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--before")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--prepare")
    parser.add_argument("callspan")
    parser.add_argument("captures", nargs="+")
    args = parser.parse_args()
    replay = lambda binary: [binary, "replay", "--out", "OUT"]
    programs = {"callspan": replay(args.callspan)}
    if args.before:
        programs["before"] = replay(args.before)
    programs.update({name: words for name, words in PEERS.items() if shutil.which(words[0])})
    points = {}
    print("| capture | program | CPU s | CPU ms a call-second | wall s | MiB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=pathlib.Path(args.captures[0].split("=")[0]).parent) as folder:
        args.out = args.out or folder
        for named in args.captures:
            capture, seconds = named.rsplit("=", 1)
            calls = pathlib.Path(capture).stem.split("x")[0]
            for name, (cpu, wall, memory) in compare(programs, capture, args.runs, pathlib.Path(folder), args).items():
                each = 1000 * cpu / float(seconds)
                print(f"| {pathlib.Path(capture).stem} | {name} | {cpu:.2f} | {each:.3f} | {wall:.2f} | {memory:.0f} |", flush=True)
                if calls.isdigit():
                    points.setdefault(name, []).append((int(calls), each))
    if args.svg and points:
        args.svg.write_text(svg(points))


if __name__ == "__main__":
    main()
