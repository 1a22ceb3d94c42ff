"""Runs the code cells of a notebook, in order, in one namespace: `python .ci/notebook.py FILE`. Needs no Jupyter."""

import json
import pathlib
import sys

for path in sys.argv[1:]:
    names: dict = {"__name__": "__main__"}
    for number, cell in enumerate(json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{path}, cell {number}", "exec"), names)
