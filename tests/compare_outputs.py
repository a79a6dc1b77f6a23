#!/usr/bin/env python3
"""Compares what two builds of callspan make of the same captures.

    tests/compare_outputs.py OLD_BINARY NEW_BINARY CAPTURE_OR_FOLDER...

Each capture is replayed and examined by `doctor` with both binaries. WAV files must be equal byte for byte. Records and
findings must be equal but for the sentences written for people (SENTENCES), whose wording may change. Prints each difference
and exits with 1 if there is any.
"""
import concurrent.futures
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

# Fields that hold a sentence for people.
SENTENCES = {"verdict_reason", "detail", "text", "advice", "what", "meaning", "remedy", "title", "message", "why", "commands"}
CAPTURES = (".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz")
TIMEOUT_S = 600


def without_sentences(value):
    if isinstance(value, dict):
        return {k: without_sentences(v) for k, v in value.items() if k not in SENTENCES}
    if isinstance(value, list):
        return [without_sentences(v) for v in value]
    return value


def run(binary, *arguments):
    done = subprocess.run([binary, *arguments], capture_output=True, timeout=TIMEOUT_S)
    return done.returncode, done.stdout.decode(errors="replace")


def outputs(binary, capture):
    """Returns a dictionary: name of an output -> its content, in a form that can be compared."""
    found = {}
    folder = pathlib.Path(tempfile.mkdtemp(prefix="compare"))
    try:
        status, text = run(binary, "replay", "--json", "--out", str(folder), str(capture))
        found["replay: exit status"] = status
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        found["replay: records"] = [relative(without_sentences(line), folder) for line in lines]
        for file in sorted(folder.rglob("*.wav")):
            found[f"sound of {file.relative_to(folder)}"] = hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*.json")):
            record = without_sentences(json.loads(file.read_text()))
            found[f"record {file.relative_to(folder)}"] = relative(record, folder)
        status, text = run(binary, "doctor", "--json", str(capture))
        found["doctor: exit status"] = status
        try:
            found["doctor"] = without_sentences(json.loads(text))
        except ValueError:
            found["doctor"] = text
    except subprocess.TimeoutExpired as late:
        found["timeout"] = str(late.cmd[1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def relative(value, folder):
    return json.loads(json.dumps(value).replace(str(folder), "OUT"))


def differences(capture, old, new):
    before, after = outputs(old, capture), outputs(new, capture)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield f"{capture}: {name} differs\n    before {shorten(before.get(name))}\n    after  {shorten(after.get(name))}"


def shorten(value):
    text = json.dumps(value, sort_keys=True)
    return text if len(text) < 4000 else text[:4000] + " …"


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    old, new, *places = sys.argv[1:]
    captures = []
    for place in map(pathlib.Path, places):
        files = place.rglob("*") if place.is_dir() else [place]
        captures += sorted(f for f in files if f.is_file() and f.name.endswith(CAPTURES))
    differing = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        for found in pool.map(lambda c: list(differences(c, old, new)), captures):
            differing += bool(found)
            for line in found:
                print(line)
    print(f"{len(captures)} captures compared, {differing} differ")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
