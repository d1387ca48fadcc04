#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One line a test from what ctest wrote: `pass`, `fail` or `skip`, and its name.

    results.py PRESET JUNIT.xml STATUS        STATUS is the exit status of ctest

Only a test that says so itself (exit 77) is skipped; parts that a program skips by itself are
lines of their own.  One that could not be started is failed, and so is a ctest that found nothing,
wrote nothing, or failed for a reason that no test shows."""
import re
import sys
import xml.etree.ElementTree as ET


def verdict(case):
    """(pass | fail | skip, why) of one <testcase>."""
    status = case.get("status")
    skipped = case.find("skipped")
    why = skipped.get("message", "") if skipped is not None else ""
    if status == "run" and skipped is None and case.find("failure") is None:
        return "pass", ""
    if skipped is not None and why.startswith("SKIP_RETURN_CODE"):
        lines = (case.findtext("system-out") or "").strip().splitlines()
        return "skip", lines[-1] if lines else ""
    return "fail", why or (case.find("failure").get("message", "") if case.find("failure") is not None else status)


def skipped_parts(case):
    """What a program of several tests skipped and yet passed, as cmocka lists it at the end."""
    names = re.findall(r"^\[  SKIPPED \] (\w+)$", case.findtext("system-out") or "", re.M)
    return sorted(set(names))


def main(preset, path, status):
    try:
        cases = ET.parse(path).getroot().findall("testcase")
    except (OSError, ET.ParseError) as e:
        print(f"fail {preset}: ctest left no results: {e}")
        return
    failed = 0
    for case in cases:
        word, why = verdict(case)
        failed += word == "fail"
        print(f"{word} {preset}: {case.get('name')}" + (f" ({why})" if why else ""))
        for part in skipped_parts(case) if word == "pass" else []:
            print(f"skip {preset}: {case.get('name')}, {part}")
    if not cases:
        print(f"fail {preset}: no tests were found")
    elif status != "0" and not failed:
        print(f"fail {preset}: ctest exit status {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])
