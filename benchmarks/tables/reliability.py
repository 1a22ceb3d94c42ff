"""Tables of docs/reliability.md: what the long forms tried, how much memory grew, which versions were run."""

from __future__ import annotations

from collections import Counter

from benchmarks.tables.markdown import RESULTS, markdown, rows_of


def _rows(kind: str) -> list[dict]:
    """The committed rows of one kind; none where its long form has not been run."""
    return rows_of(f"reliability/{kind}.jsonl") if (RESULTS / "reliability" / f"{kind}.jsonl").is_file() else []


def tried() -> str:
    """Faults of every kind over all rows: how many were tried, after how many all was as it should be, what was not."""
    lines = [(f"`{row['command']}` killed by SIGKILL and run again", row["moments"], row["same"], row["problems"])
             for row in _rows("kill")]
    lines += [(f"`{row['command']}`, one of its file operations fails", row["faults"], row["well"], row["problems"])
              for row in _rows("faults")]
    lines += [(f"{row['kind']}, {row['processes']} processes at once", row["rounds"], row["well"], row["problems"])
              for row in _rows("processes")]
    for row in _rows("flips"):
        lines += [("a bit of a pack turned over: refused", row["flips"] - row["same"], row["refused"], row["problems"]),
                  ("a bit of a pack turned over: nothing that is read changes", row["same"], row["same"], {})]
    for row in _rows("numbers"):
        lines += [("NaN or infinity in an array of a pack: named and rolled back", row["faults"] - row["no_effect"],
                   row["named"], row["problems"]),
                  ("NaN or infinity in an array of a pack: no term reads it", row["no_effect"], row["no_effect"], {})]
    sums: dict[str, list[int]] = {}
    bad: dict[str, Counter] = {}
    for what, count, well, problems in lines:
        sums[what] = [a + b for a, b in zip(sums.get(what, [0, 0]), (count, well))]
        bad.setdefault(what, Counter()).update(problems)
    return markdown(("fault", "tried", "as it should be", "what was not"), [
        (what, f"{count}", f"{well}", "; ".join(f"{n} x {problem}" for problem, n in bad[what].items()))
        for what, (count, well) in sums.items()])


def mutations() -> str:
    """What readers made of damaged files, by container."""
    return markdown(("container", "mutations", "refused", "read", "stopped", "wrong", "slowest, s", "peak, MB"), [
        (row["container"], *(f"{row[name]}" for name in ("mutations", "refused", "read", "stopped", "wrong")),
         f"{row['slowest_s']:.2g}", f"{row['peak_mb']:.0f}") for row in _rows("fuzz")])


def memory() -> str:
    """What many calls in one process cost."""
    return markdown(("what", "how many", "KiB more a call", "programs compiled after the first", "peak, MB"), [
        (row["what"], f"{row.get('calls', row.get('photos'))}", f"{row['kb_a_call']:.1f}", f"{row.get('compiled', '')}",
         f"{row['peak_mb']}") for row in _rows("leaks")])


def batches() -> str:
    """How far results of batches of several sizes lie apart."""
    return markdown(("portraits", "sizes of the batch", "steps", "first energy, relative", "PSNR at the end, dB"), [
        (f"{row['portraits']}", ", ".join(map(str, row["sizes"])), f"{row['steps']}", f"{row['first_energy']:.1e}",
         f"{row['psnr_db']:.2g}") for row in _rows("batches")])


def versions() -> str:
    """The last run of every Python and kind of pins."""
    last = {(row["python"], row["pins"]): row for row in _rows("versions")}
    names = ("jax", "flax", "numpy", "scipy", "pillow", "orbax-checkpoint")
    return markdown(("Python", "pins", *names, "tests", "outcome"), [
        (python, pins, *(row.get("versions", {}).get(name, "") for name in names), f"{row.get('tests', '')}",
         row["outcome"] + (f": {row['cause']}" if "cause" in row else "")) for (python, pins), row in last.items()])
