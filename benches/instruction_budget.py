#!/usr/bin/env python3
"""Counts the instructions of each stage of a packet's way, and compares them with the budget.

    benches/instruction_budget.py            # fails if a stage needs more than TOLERANCE above its budget
    benches/instruction_budget.py --write    # writes the counts as the new budget

The counts come from callgrind (Debian: valgrind), so they depend neither on the machine's speed nor on its load. They depend
on the compiler, which rust-toolchain.toml pins, and hardly on the processor: the C library is told to use its plain functions.
Each stage runs with two numbers of rounds; the difference has no start of the process in it.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGET = ROOT / "benches" / "instruction_budget.json"
# A stage: its name in the budget, stage of the program, the stage that is subtracted, rounds of the two runs, unit.
STAGES = [
    ("decode a packet", "decode", "frames", (10_000, 40_000)),
    ("find the call of a packet", "lookup", "decode", (10_000, 40_000)),
    ("append a packet to the spool", "append", "lookup", (10_000, 40_000)),
    ("render a call of a minute", "render", None, (1, 3)),
]
TOLERANCE = 0.05
# memcpy and others have a form for each kind of processor. Without these features, all x86-64 machines use the same.
PLAIN_FUNCTIONS = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load"


def program():
    """Builds the bench and returns the path of its program."""
    command = ["cargo", "bench", "--locked", "--no-default-features", "--bench", "instructions", "--no-run"]
    command.append("--message-format=json")
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    paths = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "instructions"]
    return paths[-1]


def instructions(path, stage, rounds):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", path, stage, str(rounds)]
    plain = dict(os.environ, GLIBC_TUNABLES=PLAIN_FUNCTIONS)
    done = subprocess.run(command, cwd=ROOT, env=plain, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return int(found.group(1))


def counts(path):
    known = {}

    def of_a_round(stage, rounds):
        if stage not in known:
            few, many = rounds
            known[stage] = (instructions(path, stage, many) - instructions(path, stage, few)) / (many - few)
        return known[stage]

    for name, stage, before, rounds in STAGES:
        yield name, round(of_a_round(stage, rounds) - (of_a_round(before, rounds) if before else 0))


def main():
    path = sys.argv[1] if len(sys.argv) > 1 and not sys.argv[1].startswith("-") else program()
    found = dict(counts(path))
    if "--write" in sys.argv:
        BUDGET.write_text(json.dumps(found, indent=4) + "\n")
    budget = json.loads(BUDGET.read_text())
    over = False
    for name, count in found.items():
        allowed = budget.get(name, 0)
        too_much = count > allowed * (1 + TOLERANCE)
        over |= too_much
        change = f"{100 * (count / allowed - 1):+.1f} %" if allowed else "no budget"
        print(f"{name}: {count} instructions (budget {allowed}, {change}){' TOO MANY' if too_much else ''}")
    if over:
        sys.exit(f"more than {TOLERANCE:.0%} above the budget: make it cheaper, or raise the budget with --write and say why")


if __name__ == "__main__":
    main()
